"""Events added to a session by an agent that keeps its session here, and by ADK's clients."""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

from collections.abc import Sequence

from session_manager.domain.adk.model import AdkEvent, AdkKey, Attempt
from session_manager.domain.errors import Forbidden, StaleSession
from session_manager.domain.times import Micros
from session_manager.store.transactions import adk_rows, adk_turns
from session_manager.store.transactions.adk_checks import check_events, check_key
from session_manager.store.transactions.adk_times import apart, later
from session_manager.store.transactions.base import Transaction

_LIVE = "SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND deleted_at IS NULL"
_OPEN = f"""
SELECT unix(update_time), ({_LIVE}) FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3 for_update()
"""
# The session before its message, which is the order of every transaction that locks both.
_LOCK_SESSION = f"{_LIVE} for_update()"
# It is noted that the pod keeps its history itself: then nobody else has to tell of the turn.
_OPEN_ATTEMPT = """
UPDATE message SET adk_kept = 1 WHERE id = $1 AND session = $2 AND attempt = $3 AND finished_at IS NULL RETURNING 1
"""


def append(
    now: Micros, key: AdkKey, events: Sequence[AdkEvent], seen: float | None, attempt: Attempt | None
) -> Transaction[float | None]:
    """The new update time; None, and nothing written, unless both ADK's row and a live one of ours are there."""
    check_key(key)
    check_events(events)
    uuid = yield from adk_turns.is_behind(key)
    while uuid is not None and not (yield from adk_turns.catch_up(now, uuid)):
        pass
    if attempt is not None:
        yield from _check_attempt(key, attempt)
    found = yield _OPEN, key
    if not found or found[0][1] is None:
        return None
    updated: float = found[0][0]
    new = yield from adk_rows.unknown(key, events)
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
        updated = later(event.timestamp, updated)
    return (yield from adk_rows.add_events(key, apart(events), updated))


def _check_attempt(key: AdkKey, attempt: Attempt) -> Transaction[None]:
    live = yield _LOCK_SESSION, key
    if live and not (yield _OPEN_ATTEMPT, (attempt.message_id, live[0][0], attempt.number)):
        raise Forbidden("The turn that may write to this session is over")
