"""The times under which a session's events are stored, and by which they are sorted. Event data is never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from session_manager.domain.adk.model import AdkEvent
from session_manager.domain.times import SECOND, micros

TICK: Final = 1 / SECOND  # seconds; the smallest step of a session's update time, which PostgreSQL can distinguish

Placed = Sequence[tuple[AdkEvent, float]]
"""Events with the times in Unix seconds under which they are stored."""


def later(at: float, updated: float) -> float:
    """Return ``at``, or the first microsecond after ``updated`` if that is later."""
    return at if at >= updated + TICK else (micros(updated) + 1) / SECOND


def placed_after(updated: float, events: Iterable[AdkEvent]) -> Placed:
    """Return the events with times that keep their order and sort after everything stored at ``updated``."""
    placed = []
    for event in events:
        updated = later(event.timestamp, updated)
        placed.append((event, updated))
    return placed


def apart(events: Iterable[AdkEvent]) -> Placed:
    """Return the events with their own times, moved only if an event has the time of the one before."""
    placed, last, stamp = [], 0.0, None
    for event in events:
        same = micros(event.timestamp) == stamp
        last, stamp = later(last, last) if same else event.timestamp, micros(event.timestamp)
        placed.append((event, last))
    return placed
