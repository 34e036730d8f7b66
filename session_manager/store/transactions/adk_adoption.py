"""Our sessions and ADK's rows brought together, after a real ADK service made or removed one of them.

A live session of ours whose ADK row is gone was deleted by such a service, if the row was ever there (``adk_row``).
An ADK row without a live session of ours was made by one. Triggers note the keys of both; ``settle`` decides by what is
there now, so a note may come late, or twice.
"""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkKey, Delta, Home
from session_manager.domain.errors import InvalidInput
from session_manager.domain.session import Session
from session_manager.domain.times import Micros, micros, seconds
from session_manager.store.transactions import adk_rows, teardown
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import SESSION, SESSION_WIDTH, session_of

log = logging.getLogger(__name__)

_LIVE = f"""
SELECT {SESSION}, adk_row FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND deleted_at IS NULL
"""
_ROW = """
SELECT unix(create_time), unix(update_time) FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3
"""
_ADOPT = """
INSERT INTO session (uuid, user_id, app, adk_id, class_name, ttl, created_at, last_activity, expires_at, expired_at,
    adk_row)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1)
ON CONFLICT DO NOTHING
"""
_HAS_ROW = "UPDATE session SET adk_row = 1 WHERE uuid = $1"
_NOTES = "SELECT number, app, user_id, adk_id FROM adk_note ORDER BY number LIMIT $1"
_FORGET = "DELETE FROM adk_note WHERE number = $1"
# Made by a version of this program from before ADK's tables. One whose key does not fit into them stays without.
_WITHOUT = """
SELECT app, user_id, adk_id FROM session
WHERE adk_row = 0 AND deleted_at IS NULL AND length(app) <= 128 AND length(user_id) <= 128 LIMIT $1
"""

Note = tuple[int | None, AdkKey]
"""The number of the note, None where the columns themselves say that there is something to do."""


def find(key: AdkKey) -> Transaction[Session | None]:
    """Our session, if all is as it should be: ``settle`` has nothing to do."""
    live = yield _LIVE, key
    row = yield _ROW, key
    return session_of(live[0]) if live and row else None


def is_orphan(key: AdkKey) -> Transaction[bool]:
    """Whether our session is there and ADK's row is not."""
    live = yield _LIVE, key
    row = yield _ROW, key
    return bool(live) and not row


def settle(now: Micros, key: AdkKey, uuid: str, home: Home) -> Transaction[tuple[Session | None, str | None]]:
    """The live session of that key, made or closed as need be, and the uuid of one that was closed.

    ``uuid`` and ``home`` are those of a session that is adopted.
    """
    live = yield f"{_LIVE} for_update()", key
    updated = yield from adk_rows.lock(key)
    if not live:
        adopted = None if updated is None else (yield from _adopt(now, key, uuid, home))
        return adopted, None
    session = session_of(live[0])
    if live[0][SESSION_WIDTH]:
        if updated is None:
            yield from teardown.delete(now, session.uuid, EVERYTHING)
            return None, session.uuid
    else:
        yield from _make_row(session, key)
    return session, None


def notes(limit: int) -> Transaction[list[Note]]:
    """What is to be settled, oldest first."""
    noted = yield _NOTES, (limit,)
    without = yield _WITHOUT, (limit,)
    return [(row[0], AdkKey(*row[1:4])) for row in noted] + [(None, AdkKey(*row[:3])) for row in without]


def sweep(
    now: Micros, found: Sequence[Note], uuids: Sequence[str], homes: Mapping[str, Home]
) -> Transaction[tuple[int, list[str]]]:
    """Settle these; how many were adopted, and the uuids of those that were closed."""
    adopted, closed = 0, []
    for (number, key), uuid in zip(found, uuids, strict=True):
        try:
            session, gone = yield from settle(now, key, uuid, homes[key.app])
        except InvalidInput as error:  # a row that nobody can read must not stand in the way of all others
            extra = {"event": "store.adk_unreadable", "reason": error.detail}
            log.warning("a session of ADK's cannot be adopted", extra=extra)
        else:
            adopted += session is not None and session.uuid == uuid
            closed += [gone] if gone else []
        if number is not None:
            yield _FORGET, (number,)
    return adopted, closed


def _adopt(now: Micros, key: AdkKey, uuid: str, home: Home) -> Transaction[Session]:
    [row] = yield _ROW, key
    created, updated = (adk_rows.time_of(value) for value in row[:2])
    active = min(now, micros(updated))
    expires = active + home.ttl
    expired = now if expires <= now else None
    yield from adk_rows.ensure_states(key, updated)
    ours = (uuid, key.user_id, key.app, key.id, home.class_name, home.ttl)
    yield _ADOPT, (*ours, min(now, micros(created)), active, expires, expired)
    live = yield _LIVE, key  # somebody else's, if they were quicker
    return session_of(live[0])


def _make_row(session: Session, key: AdkKey) -> Transaction[None]:
    yield from adk_rows.create(key, seconds(session.created_at), Delta({}, {}, {}))
    yield _HAS_ROW, (session.uuid,)
