"""The times by which a session's events are sorted. ADK's own data keep what each event says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from session_manager.domain.adk.model import AdkEvent
from session_manager.domain.times import SECOND, micros
from session_manager.store.transactions.adk_rows import TICK

Placed = Sequence[tuple[AdkEvent, float]]
"""Events with the times in Unix seconds under which they are stored."""


def later(at: float, updated: float) -> float:
    """``at``, or the first microsecond after ``updated``."""
    return at if at >= updated + TICK else (micros(updated) + 1) / SECOND


def placed_after(updated: float, events: Iterable[AdkEvent]) -> Placed:
    """With times under which they sort in the order given, behind what was stored at ``updated``."""
    placed = []
    for event in events:
        updated = later(event.timestamp, updated)
        placed.append((event, updated))
    return placed


def apart(events: Iterable[AdkEvent]) -> Placed:
    """At their own times, but for those that have the time of the one before."""
    placed, last, stamp = [], 0.0, None
    for event in events:
        same = micros(event.timestamp) == stamp
        last, stamp = later(last, last) if same else event.timestamp, micros(event.timestamp)
        placed.append((event, last))
    return placed
