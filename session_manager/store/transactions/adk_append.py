"""Events added to a session by an agent that keeps its session here, and by ADK's clients."""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence

from session_manager.domain.adk.model import AdkEvent, AdkKey, Attempt
from session_manager.domain.adk.turn import message_of
from session_manager.domain.errors import Forbidden, InvalidInput, StaleSession
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
UPDATE message SET adk_kept = adk_kept | $4 WHERE id = $1 AND session = $2 AND attempt = $3 AND finished_at IS NULL
RETURNING 1
"""
_ARE_OPEN = "SELECT 1 FROM message WHERE session = $1 AND id IN ids($2) AND finished_at IS NULL"


def append(
    now: Micros, key: AdkKey, events: Sequence[AdkEvent], seen: float | None, attempt: Attempt | None
) -> Transaction[float | None]:
    """The new update time; None, and nothing written, unless both ADK's row and a live one of ours are there."""
    check_key(key)
    check_events(events)
    uuid = yield from adk_turns.is_behind(key)
    if uuid is not None:
        yield from adk_turns.catch_up_whole(now, uuid)
    if attempt is not None:
        yield from _check_attempt(key, attempt, writes=bool(events))
    found = yield _OPEN, key
    if not found or found[0][1] is None:
        return None
    updated = adk_rows.time_of(found[0][0])
    yield from _check_ids(found[0][1], events)
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


def _check_ids(uuid: str, events: Sequence[AdkEvent]) -> Transaction[None]:
    """Nobody writes, before a turn has ended, the events by which it will be told of: they would be taken for known."""
    reserved = [message_id for event in events if (message_id := message_of(event.id))]
    if reserved and (yield _ARE_OPEN, (uuid, json.dumps(reserved))):
        raise InvalidInput("id is that of a message whose turn has not ended", field="id")


def _check_attempt(key: AdkKey, attempt: Attempt, *, writes: bool) -> Transaction[None]:
    live = yield _LOCK_SESSION, key
    if live and not (yield _OPEN_ATTEMPT, (attempt.message_id, live[0][0], attempt.number, int(writes))):
        raise Forbidden("The turn that may write to this session is over")
