"""ADK's own rows, and how they change. In each statement with ADK's key, the key is $1, $2 and $3.

Locks are taken in the order of ADK's DatabaseSessionService: the session, the app's state, the user's state. If our own
row of the session is locked as well, it comes first.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from session_manager.domain.adk.model import AdkEvent, AdkKey, Delta, State, merge_state
from session_manager.domain.errors import InvalidInput, UnreadableRow
from session_manager.store.transactions.base import Transaction

MOST_STATE: Final = 8 * 1024 * 1024  # characters of one session, user or app; each read and change processes all of it
# A prepared statement of SQLite keeps its values until it runs again, and there is one for each number of rows.
_PER_INSERT: Final = 128
MOST_TOGETHER: Final = 64 * 1024  # characters of events in one statement, unless it has one event only

_KEY = "app_name = $1 AND user_id = $2 AND"
_LOCK = f"SELECT unix(update_time) FROM sessions WHERE {_KEY} id = $3 for_update()"
_STATE = f"SELECT state FROM sessions WHERE {_KEY} id = $3"
_APP_STATE = "SELECT state FROM app_states WHERE app_name = $1"
_USER_STATE = "SELECT state FROM user_states WHERE app_name = $1 AND user_id = $2"
_ENSURE_APP = """
INSERT INTO app_states (app_name, state, update_time) VALUES ($1, as_json($2), as_time($3)) ON CONFLICT DO NOTHING
"""
_ENSURE_USER = """
INSERT INTO user_states (app_name, user_id, state, update_time) VALUES ($1, $2, as_json($3), as_time($4))
ON CONFLICT DO NOTHING
"""
_SET_APP = "UPDATE app_states SET state = as_json($2), update_time = as_time($3) WHERE app_name = $1"
_SET_USER = """
UPDATE user_states SET state = as_json($3), update_time = as_time($4) WHERE app_name = $1 AND user_id = $2
"""
_CREATE = """
INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time)
VALUES ($1, $2, $3, as_json($4), as_time($5), as_time($5)) ON CONFLICT DO NOTHING RETURNING unix(update_time)
"""
_KEPT = "RETURNING unix(update_time)"  # the database may have rounded it
_MOVE = f"UPDATE sessions SET update_time = as_time($4) WHERE {_KEY} id = $3 {_KEPT}"
_CHANGE = f"UPDATE sessions SET update_time = as_time($4), state = as_json($5) WHERE {_KEY} id = $3 {_KEPT}"
_KNOWN = f"SELECT id FROM events WHERE {_KEY} session_id = $3 AND id IN ids($4)"
# PostgreSQL may run a join as a comparison of each id with every event. IS TRUE prevents that: a hash table is used.
KNOWN_OF_MANY = f"SELECT id FROM events WHERE {_KEY} session_id = $3 AND (id IN ids($4)) IS TRUE"
_MANY: Final = 50
_INSERT_EVENTS = """
INSERT INTO events (app_name, user_id, session_id, id, invocation_id, timestamp, event_data) VALUES
"""
_EMPTY = "{}"


def create(key: AdkKey, at: float, state: Delta) -> Transaction[float | None]:
    """Create ADK's rows of a new session and of its shared states. Return the update time, or None if it exists."""
    yield from ensure_states(key, at)
    yield from _merge_shared(key, state, at)
    rows = yield _CREATE, (*key, dump(state.session), at)
    return rows[0][0] if rows else None


def ensure_states(key: AdkKey, at: float) -> Transaction[None]:
    """Create both rows of state if missing. Without them DatabaseSessionService refuses to append to a session."""
    yield _ENSURE_APP, (key.app, _EMPTY, at)
    yield _ENSURE_USER, (key.app, key.user_id, _EMPTY, at)


def lock(key: AdkKey) -> Transaction[float | None]:
    """Lock the session until the commit. Return its update time, or None if it has no ADK row."""
    rows = yield _LOCK, key
    return time_of(rows[0][0]) if rows else None


def time_of(value: Any) -> float:
    """Return a time from an ADK row. Raises UnreadableRow if it is text, which SQLite would store, or infinite."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UnreadableRow("ADK's row of the session has no valid time in seconds since 1970", field="update_time")
    return value


def unknown(key: AdkKey, events: Sequence[AdkEvent]) -> Transaction[list[AdkEvent]]:
    """Return the events that are not stored yet, each once."""
    sql = _KNOWN if len(events) < _MANY else KNOWN_OF_MANY
    rows = yield sql, (*key, json.dumps([event.id for event in events]))
    known = {row[0] for row in rows}
    return list({event.id: event for event in events if event.id not in known}.values())


def add_events(key: AdkKey, events: Sequence[tuple[AdkEvent, float]], updated: float) -> Transaction[float]:
    """Store events at these times, apply their changes of state, and set the update time. Return it as stored.

    The session's row must be locked.
    """
    yield from insert_events([(key, event, at) for event, at in events])
    return (yield from apply_changes(key, [event for event, _ in events], updated))


def insert_events(rows: Sequence[tuple[AdkKey, AdkEvent, float]]) -> Transaction[None]:
    """Store events of one or many sessions, without their changes of state. Stored events stay as they are."""
    start = 0
    while start < len(rows):
        some = rows[start : start + _fitting(rows, start)]
        start += len(some)
        yield (
            _insert(len(some)),
            [value for key, event, at in some for value in (*key, event.id, event.invocation_id, at, event.data)],
        )


def _fitting(rows: Sequence[tuple[AdkKey, AdkEvent, float]], start: int) -> int:
    """Return how many of the rows from ``start`` on go into one statement: a power of two."""
    count, size = 1, len(rows[start][1].data)
    while 2 * count <= min(_PER_INSERT, len(rows) - start):
        size += sum(len(event.data) for _, event, _ in rows[start + count : start + 2 * count])
        if size > MOST_TOGETHER:
            break
        count *= 2
    return count


def apply_changes(key: AdkKey, events: Iterable[AdkEvent], updated: float) -> Transaction[float]:
    """Apply the events' changes of state, and set the update time. Return it as stored."""
    delta = _merged(event.delta for event in events)
    if delta.app or delta.user:
        yield from ensure_states(key, updated)
        yield from _merge_shared(key, delta, updated)
    if delta.session:
        [row] = yield _STATE, key
        kept = yield _CHANGE, (*key, updated, dump(json.loads(row[0]) | delta.session))
    else:
        kept = yield _MOVE, (*key, updated)
    at: float = kept[0][0]
    return at


def merged_state(app: str | None, user: str | None, session: str) -> State:
    """Return the state that a reader sees, from the JSON texts of its three rows, or None for a missing row."""
    return merge_state(json.loads(app or _EMPTY), json.loads(user or _EMPTY), json.loads(session))


def dump(state: State) -> str:
    """Return state as JSON text. Raises InvalidInput if it is not JSON, or too long for one row."""
    try:
        text = json.dumps(state, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput("State must be JSON", field="state") from None
    if len(text) > MOST_STATE:
        raise InvalidInput(f"State is longer than {MOST_STATE} characters of JSON", field="state")
    return text


def _merged(deltas: Iterable[Delta]) -> Delta:
    whole = Delta({}, {}, {})
    for delta in deltas:
        for mine, its in zip(whole, delta, strict=True):
            mine.update(its)
    return whole


def _merge_shared(key: AdkKey, delta: Delta, at: float) -> Transaction[None]:
    """Update the shared states as ``dict.update`` does. Their rows must exist. A null is a value like any other."""
    if delta.app:
        [row] = yield f"{_APP_STATE} for_update()", (key.app,)
        yield _SET_APP, (key.app, dump(json.loads(row[0]) | delta.app), at)
    if delta.user:
        [row] = yield f"{_USER_STATE} for_update()", (key.app, key.user_id)
        yield _SET_USER, (key.app, key.user_id, dump(json.loads(row[0]) | delta.user), at)


@cache
def _insert(count: int) -> str:
    row = "(${}, ${}, ${}, ${}, ${}, as_time(${}), as_json(${}))"
    rows = (row.format(*range(first, first + 7)) for first in range(1, 7 * count, 7))
    return f"{_INSERT_EVENTS} {', '.join(rows)} ON CONFLICT DO NOTHING"
