"""What is the same for all front doors of one installation."""

from __future__ import annotations

from session_manager.domain.times import Micros
from session_manager.store.transactions.base import Transaction

_FIND = "SELECT value FROM installation WHERE name = $1"
_KEEP = "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING"


def find(name: str) -> Transaction[str | None]:
    rows = yield _FIND, (name,)
    return rows[0][0] if rows else None


def keep(now: Micros, name: str, value: str) -> Transaction[str]:
    """The value kept under that name: this one, unless somebody was quicker."""
    yield _KEEP, (name, value)
    rows = yield _FIND, (name,)
    kept: str = rows[0][0]
    return kept
