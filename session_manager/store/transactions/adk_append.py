"""Appends events to a session, for agents that keep their sessions here and for ADK's clients."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence

from session_manager.domain.access import EVERYTHING, Access, OneSession
from session_manager.domain.adk.limits import check_events, check_key
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdoptAs
from session_manager.domain.adk.ordering import apart, later
from session_manager.domain.adk.turn_events import message_id_of
from session_manager.domain.errors import InvalidInput, StaleSession
from session_manager.domain.times import Micros
from session_manager.store.transactions import adk_adoption, adk_rows, adk_turns
from session_manager.store.transactions.access import reject_turn
from session_manager.store.transactions.base import Transaction

_LIVE = "SELECT 1 FROM session WHERE uuid = $1 AND deleted_at IS NULL"
_OPEN = f"""
SELECT unix(update_time), ({_LIVE.replace("$1", "$4")}) FROM sessions
WHERE app_name = $1 AND user_id = $2 AND id = $3 for_update()
"""
# Each transaction that locks both locks the session before its message.
_LOCK_SESSION = f"{_LIVE} for_update()"
# This also records that the pod keeps its own history, so that nothing else writes the events of the turn.
_OPEN_ATTEMPT = """
UPDATE message SET adk_kept = adk_kept | $4 WHERE id = $1 AND session = $2 AND attempt = $3 AND finished_at IS NULL
RETURNING 1
"""
_ARE_OPEN = "SELECT 1 FROM message WHERE session = $1 AND id IN ids($2) AND finished_at IS NULL"


def append(
    now: Micros,
    adopt_as: AdoptAs,
    key: AdkKey,
    events: Sequence[AdkEvent],
    *,
    seen: float | None = None,
    access: Access = EVERYTHING,
) -> Transaction[float | None]:
    """Return the new update time, or None if there is no such session."""
    check_key(key)
    check_events(events)
    located = yield from adk_adoption.locate(now, adopt_as, key)
    if located is None:
        reject_turn(access, None)
        return None
    return (yield from append_to(now, located, events, seen, access))


def append_to(
    now: Micros, located: adk_adoption.Located, events: Sequence[AdkEvent], seen: float | None, access: Access
) -> Transaction[float | None]:
    """Return the new update time, or None if the session was deleted just now."""
    uuid, key = located.record.uuid, located.key
    if located.behind:
        yield from adk_turns.catch_up_whole(now, uuid)
    if isinstance(access, OneSession):
        yield from _check_turn(uuid, access, writes=bool(events))
    found = yield _OPEN, (*key, uuid)
    if not found or found[0][1] is None:
        return None
    updated = adk_rows.time_of(found[0][0])
    yield from _check_ids(uuid, events)
    new = yield from adk_rows.unknown(key, events)
    if not new:
        return updated
    if seen is not None and seen < updated:
        raise StaleSession
    return (yield from store(key, new, updated))


def store(key: AdkKey, events: Sequence[AdkEvent], updated: float) -> Transaction[float]:
    """Store events under their own times, those of the same time in the given order. Return the new update time.

    It is the last event's time, but always later than the stored one, so that a writer with an older copy is detected.
    """
    for event in events:
        updated = later(event.timestamp, updated)
    return (yield from adk_rows.add_events(key, apart(events), updated))


def _check_ids(uuid: str, events: Sequence[AdkEvent]) -> Transaction[None]:
    """Reject ids that the events of an unfinished turn will have. Those would be taken for known ones and left out."""
    reserved = [message_id for event in events if (message_id := message_id_of(event.id))]
    if reserved and (yield _ARE_OPEN, (uuid, json.dumps(reserved))):
        raise InvalidInput("id is that of a message whose turn has not ended", field="id")


def _check_turn(uuid: str, access: OneSession, *, writes: bool) -> Transaction[None]:
    if access.uuid != uuid:
        reject_turn(access, uuid)
    yield _LOCK_SESSION, (uuid,)
    if not (yield _OPEN_ATTEMPT, (access.attempt.message_id, uuid, access.attempt.number, int(writes))):
        reject_turn(access, uuid)
