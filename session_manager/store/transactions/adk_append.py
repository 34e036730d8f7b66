"""Events added to a session: by an agent that keeps its session here, and by the turns of one that does not."""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

from collections.abc import Iterable, Sequence

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn, Attempt
from session_manager.domain.errors import Forbidden, StaleSession
from session_manager.domain.times import SECOND, Micros, micros
from session_manager.store.transactions import adk_rows
from session_manager.store.transactions.adk_checks import check_events, check_key
from session_manager.store.transactions.base import Transaction

_LIVE = "SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND deleted_at IS NULL"
_OPEN = f"""
SELECT unix(update_time), ({_LIVE}) FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3 for_update()
"""
# The session before its message, which is the order of every transaction that locks both.
_LOCK_SESSION = f"{_LIVE} for_update()"
_OPEN_ATTEMPT = """
SELECT 1 FROM message WHERE id = $1 AND session = $2 AND attempt = $3 AND finished_at IS NULL for_update()
"""


def append(
    now: Micros, key: AdkKey, events: Sequence[AdkEvent], seen: float | None, attempt: Attempt | None
) -> Transaction[float | None]:
    """The new update time; None, and nothing written, unless both ADK's row and a live one of ours are there."""
    check_key(key)
    check_events(events)
    if attempt is not None:
        yield from _check_attempt(key, attempt)
    found = yield _OPEN, key
    if not found or found[0][1] is None:
        return None
    updated: float = found[0][0]
    new = yield from _unknown(key, events)
    if not new:
        return updated
    if seen is not None and seen < updated:
        raise StaleSession
    return (yield from store(key, new, updated))


def store(key: AdkKey, events: Sequence[AdkEvent], updated: float) -> Transaction[float]:
    """Store events under their own times, those of the same time in the order given; the new update time.

    It is the last event's time, but always later than the stored one, or else a writer with an older copy would not
    be found out.
    """
    for event in events:
        updated = _later(event.timestamp, updated)
    return (yield from adk_rows.add_events(key, list(_apart(events)), updated))


def add_turn(key: AdkKey, turn: AdkTurn) -> Transaction[None]:
    """Store what a turn leaves, after all that is there already. Nothing without ADK's row."""
    updated = yield from adk_rows.lock(key)
    if updated is None:
        return
    events = yield from _of_turn(key, turn)
    if events:
        placed = list(_placed_after(updated, events))
        if turn.is_plain:
            yield from adk_rows.add_plain(key, placed)
        else:
            yield from adk_rows.add_events(key, placed, placed[-1][1])


def _placed_after(updated: float, events: Iterable[AdkEvent]) -> Iterable[tuple[AdkEvent, float]]:
    """The events with the times under which they sort in the order given, behind what was stored at ``updated``."""
    for event in events:
        updated = _later(event.timestamp, updated)
        yield event, updated


def _of_turn(key: AdkKey, turn: AdkTurn) -> Transaction[Sequence[AdkEvent]]:
    """The events of a turn that are to be stored."""
    if turn.is_plain:
        return turn.events  # what is stored already is left alone by the insert
    new = yield from _unknown(key, turn.events)
    kept_by_pod = len(new) < len({event.id for event in turn.events})
    return new if turn.user is None or kept_by_pod else (turn.user, *new)


def _check_attempt(key: AdkKey, attempt: Attempt) -> Transaction[None]:
    live = yield _LOCK_SESSION, key
    if live and not (yield _OPEN_ATTEMPT, (attempt.message_id, live[0][0], attempt.number)):
        raise Forbidden("The turn that may write to this session is over")


def _unknown(key: AdkKey, events: Sequence[AdkEvent]) -> Transaction[list[AdkEvent]]:
    """Those that are not stored, each once."""
    stored = yield from adk_rows.known(key, events)
    return list({event.id: event for event in events if event.id not in stored}.values())


def _later(at: float, updated: float) -> float:
    """``at``, or the first microsecond after ``updated``."""
    return at if at >= updated + adk_rows.TICK else (micros(updated) + 1) / SECOND


def _apart(events: Iterable[AdkEvent]) -> Iterable[tuple[AdkEvent, float]]:
    last, stamp = 0.0, None
    for event in events:
        same = micros(event.timestamp) == stamp
        last, stamp = _later(last, last) if same else event.timestamp, micros(event.timestamp)
        yield event, last
