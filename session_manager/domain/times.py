"""Times are whole microseconds since 1970, UTC.

Integers compare exactly (expiry commits ``WHERE last_activity = <value read>``) and mean the same in SQLite, in
PostgreSQL and in Redis.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NewType

Micros = NewType("Micros", int)

SECOND = 1_000_000


def micros(seconds: float) -> Micros:
    """Return seconds (a duration or a Unix time) as microseconds."""
    return Micros(round(seconds * SECOND))


def seconds(value: int) -> float:
    """Return microseconds as seconds."""
    return value / SECOND


def rfc3339(value: int) -> str:
    """Return a time as RFC 3339 in UTC, with milliseconds: ``2026-01-31T12:00:00.250Z``."""
    moment = datetime.fromtimestamp(value // SECOND, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{value % SECOND // 1000:03d}Z"
