"""Sessions as ADK sees them: create, read, list, and append events, for agents that keep them here and for clients."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence
from typing import assert_never

from session_manager.domain.access import EVERYTHING, Access, Everything, Nothing, OneSession, OwnedBy, Right
from session_manager.domain.adk.limits import apart, check_events, check_key, later, placed_after
from session_manager.domain.adk.model import (
    AdkEvent,
    AdkKey,
    AdkSession,
    AdoptAs,
    CreatedAdkSession,
    NewAdkSession,
    State,
    split_state,
)
from session_manager.domain.adk.turn_events import message_id_of
from session_manager.domain.errors import Conflict, InvalidInput, StaleSession
from session_manager.domain.quota import Quotas
from session_manager.domain.times import Micros, seconds
from session_manager.store.protocol import AdkPage, AdkQuery, NewSession
from session_manager.store.transactions import adk_adoption, adk_rows, adk_turns, sessions, usage
from session_manager.store.transactions.base import Transaction, may, reject_turn

_LIVE = "SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND deleted_at IS NULL"
_STATES = """
state, unix(update_time), (SELECT state FROM app_states WHERE app_name = $1),
    (SELECT state FROM user_states WHERE app_name = $1 AND user_id = $2)
FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3
"""
_EVENTS = "SELECT event_data FROM events WHERE app_name = $1 AND user_id = $2 AND session_id = $3"
_LATEST_FIRST = "ORDER BY timestamp DESC, tie(events) DESC"
_APP_STATE = "SELECT state FROM app_states WHERE app_name = $1"
_USER_STATE = "SELECT state FROM user_states WHERE app_name = $1 AND user_id = $2"
_USER_STATES = "SELECT user_id, state FROM user_states WHERE app_name = $1 AND user_id IN ids($2)"
_OURS = """
SELECT uuid FROM session WHERE session.app = sessions.app_name AND session.user_id = sessions.user_id
    AND session.adk_id = sessions.id AND session.deleted_at IS NULL
"""
_LISTED = f"sessions.user_id, sessions.id, sessions.state, unix(sessions.update_time), ({_OURS})"
_SIZE = "sessions.user_id, octets(sessions.state)"
_USER_SIZES = "SELECT user_id, octets(state) FROM user_states WHERE app_name = $1 AND user_id IN ids($2)"
_OLDEST_FIRST = "ORDER BY sessions.update_time, sessions.user_id, sessions.id"

_IS_LIVE = "SELECT 1 FROM session WHERE uuid = $1 AND deleted_at IS NULL"
_OPEN = f"""
SELECT unix(update_time), ({_IS_LIVE.replace("$1", "$4")}) FROM sessions
WHERE app_name = $1 AND user_id = $2 AND id = $3 for_update()
"""
# Each transaction locks our row of the session before its message and before ADK's row.
_LOCK_SESSION = f"{_IS_LIVE} for_update()"
# This also records that the pod keeps its own history, so that nothing else writes the events of the turn.
_OPEN_ATTEMPT = """
UPDATE message SET adk_kept = adk_kept | $4 WHERE id = $1 AND session = $2 AND attempt = $3 AND finished_at IS NULL
RETURNING 1
"""
_ARE_OPEN = "SELECT 1 FROM message WHERE session = $1 AND id IN ids($2) AND finished_at IS NULL"


def create(now: Micros, adopt_as: AdoptAs, quotas: Quotas, new: NewAdkSession) -> Transaction[CreatedAdkSession | None]:
    """Create a session with its events. Raises Conflict if the uuid or the key is taken, QuotaExceeded over a limit."""
    check_key(new.key)
    check_events(new.events)
    yield from adk_adoption.close_orphan(now, adopt_as, new.key)
    ours = NewSession(new.uuid, new.key.user_id, new.class_name, new.ttl)
    state = split_state(new.state)
    created = yield from sessions.insert(now, ours, new.key, state)
    if created is None:
        raise Conflict(f"Session already exists: {new.key.id}")
    if new.events:
        yield from store(new.key, new.events, seconds(now))
        yield usage.grow(new.uuid, usage.size_of(new.events))
    yield from usage.charge(new.uuid, new.key.user_id, quotas)
    yield from usage.check_sessions(new.key.user_id, quotas)
    session = yield from get(new.key, None if new.events else 0)
    return session and CreatedAdkSession(created, session)


def change(
    now: Micros,
    adopt_as: AdoptAs,
    quotas: Quotas,
    key: AdkKey,
    events: Sequence[AdkEvent],
    access: Access = EVERYTHING,
) -> Transaction[AdkSession | None]:
    """Append events, and return the session with all events, or None if there is no such session."""
    check_key(key)
    check_events(events)
    located = yield from adk_adoption.locate(now, adopt_as, key, access)
    if located is None or (yield from append_to(now, quotas, located, events, None, EVERYTHING)) is None:
        return None
    return (yield from get(located.key))


def get(
    key: AdkKey, recent: int | None = None, since: float = 0.0, access: Access = EVERYTHING
) -> Transaction[AdkSession | None]:
    """Return the session, or None unless both ADK's row and our live session exist."""
    reached, params = may(access, Right.READ, 4)
    rows = yield f"SELECT ({_LIVE}), ({_LIVE} AND {reached}), {_STATES}", (*key, *params)
    uuid = rows[0][0] if rows else None
    if uuid is None or rows[0][1] is None:
        reject_turn(access, uuid)
        return None
    session, updated, app, user = (rows[0][n] for n in range(2, 6))
    events = [] if recent == 0 else (yield from _events(key, recent, since))
    size = _length(app, user, session) + _length(*events)
    return AdkSession(uuid, key, adk_rows.merged_state(app, user, session), updated, events, size)


def get_current(key: AdkKey, recent: int | None, since: float, access: Access) -> Transaction[AdkSession | str | None]:
    """``get``, but only the uuid of a session whose turns are missing in ADK's events."""
    behind = yield adk_turns.THIS_BEHIND, key
    return behind[0][0] if behind else (yield from get(key, recent, since, access))


def page(query: AdkQuery) -> Transaction[AdkPage]:
    """Return a page, which ends before ``query.limit`` once its states are ``query.size`` long, merged as they are.

    Sessions that are not adopted yet have an empty uuid.
    """
    app = yield _APP_STATE, (query.app,)
    app_state = app[0][0] if app else None
    # One row more than the limit shows whether there is a next page.
    sizes = yield _listed(query, _SIZE, None if query.limit is None else query.limit + 1)
    owners = yield _USER_SIZES, (query.app, json.dumps(sorted({row[0] for row in sizes})))
    shared, own = _length(app_state), {row[0]: row[1] for row in owners}
    shown = yield _listed(query, _LISTED, _fitting([shared + own.get(user, 0) + size for user, size in sizes], query))
    users = yield _USER_STATES, (query.app, json.dumps(sorted({row[0] for row in shown})))
    user_states = {row[0]: row[1] for row in users}
    listed = []
    for user_id, adk_id, state, updated, uuid in shown:
        texts = (app_state, user_states.get(user_id), state)
        key = AdkKey(query.app, user_id, adk_id)
        listed.append(AdkSession(uuid or "", key, adk_rows.merged_state(*texts), updated, [], _length(*texts)))
    more = len(sizes) > len(shown)
    last = listed[-1] if more and listed else None
    return AdkPage(listed, (last.update_time, last.key.user_id, last.key.id) if last else None)


def user_state(app: str, user_id: str) -> Transaction[State]:
    """Return the state that all sessions of a user in an app share."""
    rows = yield _USER_STATE, (app, user_id)
    state: State = json.loads(rows[0][0]) if rows else {}
    return state


def append(
    now: Micros,
    adopt_as: AdoptAs,
    quotas: Quotas,
    key: AdkKey,
    events: Sequence[AdkEvent],
    *,
    seen: float | None = None,
    access: Access = EVERYTHING,
) -> Transaction[float | None]:
    """Return the new update time, or None if there is no such session."""
    check_key(key)
    check_events(events)
    located = yield from adk_adoption.locate(now, adopt_as, key, access)
    if located is None:
        reject_turn(access, None)
        return None
    return (yield from append_to(now, quotas, located, events, seen, access))


def append_to(
    now: Micros,
    quotas: Quotas,
    located: adk_adoption.Located,
    events: Sequence[AdkEvent],
    seen: float | None,
    access: Access,
) -> Transaction[float | None]:
    """Return the new update time, or None if the session was deleted just now. Raises StorageFull over the quota."""
    uuid, key = located.record.uuid, located.key
    if located.behind:
        yield from adk_turns.catch_up_whole(now, uuid)
        yield usage.REPORT, (uuid,)
    yield _LOCK_SESSION, (uuid,)
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
    if isinstance(access, OneSession):  # a pod does not choose the place of its events
        placed = placed_after(updated, new)
        updated = yield from adk_rows.add_events(key, placed, placed[-1][1])
    else:
        updated = yield from store(key, new, updated)
    yield usage.grow(uuid, usage.size_of(new))
    yield from usage.charge(uuid, key.user_id, quotas)
    return updated


def store(key: AdkKey, events: Sequence[AdkEvent], updated: float) -> Transaction[float]:
    """Store events under their own times, those of the same time in the given order. Return the new update time.

    It is the last event's time, but always later than the stored one, so that a writer with an older copy is detected.
    """
    for event in events:
        updated = later(event.timestamp, updated)
    return (yield from adk_rows.add_events(key, apart(events), updated))


def _events(key: AdkKey, recent: int | None, since: float) -> Transaction[list[str]]:
    sql, params = _EVENTS, list[object](key)
    if since:
        params.append(since)
        sql += f" AND timestamp >= as_time(${len(params)})"
    sql += f" {_LATEST_FIRST}"
    if recent is not None:
        params.append(recent)
        sql += f" LIMIT ${len(params)}"
    rows = yield sql, params
    return [row[0] for row in reversed(rows)]


def _fitting(sizes: Sequence[int], query: AdkQuery) -> int:
    """Return how many rows of these sizes make a page: one at least, if there is one."""
    room = query.size
    for count, size in enumerate(sizes[: query.limit]):
        if room <= 0:
            return count
        room -= size
    return len(sizes[: query.limit])


def _listed(query: AdkQuery, columns: str, limit: int | None) -> tuple[str, list[object]]:
    params: list[object] = [query.app]

    def param(value: object) -> str:
        params.append(value)
        return f"${len(params)}"

    sql = f"SELECT {columns} FROM sessions WHERE sessions.app_name = $1"
    match query.access:
        case Everything(classes):
            pass
        case OwnedBy(user, classes):
            sql += f" AND sessions.user_id = {param(user)}"
        case OneSession() | Nothing():
            classes = None
            sql += " AND 1 = 0"
        case _:
            assert_never(query.access)
    if classes is not None:
        sql += f" AND NOT EXISTS ({_OURS} AND class_name NOT IN ids({param(json.dumps(sorted(classes)))}))"
    if query.after is not None:
        at, last_user, last = query.after
        key = "(sessions.update_time, sessions.user_id, sessions.id)"
        sql += f" AND {key} > (as_time({param(at)}), {param(last_user)}, {param(last)})"
    for prefix in query.id_prefix_hidden:
        sql += f" AND substr(sessions.id, 1, {param(len(prefix))}) <> {param(prefix)}"
    sql += f" {_OLDEST_FIRST}"
    if limit is not None:
        sql += f" LIMIT {param(limit)}"
    return sql, params


def _length(*texts: str | None) -> int:
    return sum(len(text) for text in texts if text)


def _check_ids(uuid: str, events: Sequence[AdkEvent]) -> Transaction[None]:
    """Reject ids that the events of an unfinished turn will have. Those would be taken for known ones and left out."""
    reserved = [message_id for event in events if (message_id := message_id_of(event.id))]
    if reserved and (yield _ARE_OPEN, (uuid, json.dumps(reserved))):
        raise InvalidInput("id is that of a message whose turn has not ended", field="id")


def _check_turn(uuid: str, access: OneSession, *, writes: bool) -> Transaction[None]:
    """Raise Forbidden unless the turn reaches the session, whose row must be locked."""
    if access.uuid != uuid:
        reject_turn(access, uuid)
    if not (yield _OPEN_ATTEMPT, (access.attempt.message_id, uuid, access.attempt.number, int(writes))):
        reject_turn(access, uuid)
