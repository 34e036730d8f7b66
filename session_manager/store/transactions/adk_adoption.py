"""Reconciles our sessions with ADK's rows after a real ADK service created or removed a row.

A live session whose ADK row is missing was deleted by such a service, if the row ever existed (``adk_row``). An ADK row
without a live session was created by one. Triggers note the keys of both. ``reconcile`` looks only at the current rows,
so that a note may arrive late or twice.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from session_manager.domain.access import EVERYTHING, Access, sees
from session_manager.domain.adk.model import AdkKey, AdoptAs, Delta
from session_manager.domain.errors import InvalidInput, UnreadableRow
from session_manager.domain.session import Session
from session_manager.domain.times import Micros, micros, seconds
from session_manager.domain.values import LONGEST_ID
from session_manager.store.transactions import adk_rows, sessions
from session_manager.store.transactions.base import SESSION, SESSION_WIDTH, Transaction, session_of

log = logging.getLogger(__name__)

_IS_OURS = "app = $1 AND user_id = $2 AND adk_id = $3 AND deleted_at IS NULL"
_LIVE = f"SELECT {SESSION}, adk_row FROM session WHERE {_IS_OURS}"
_ROW = """
SELECT unix(create_time), unix(update_time), octets(state) + (
    SELECT coalesce(sum(octets(event_data)), 0) FROM events
    WHERE app_name = $1 AND events.user_id = $2 AND session_id = $3)
FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3
"""
_FIND = f"""
SELECT {SESSION}, EXISTS (SELECT 1 FROM sessions WHERE app_name = $1 AND user_id = $2 AND id = $3),
    adk_told < last_event AND adk_row = 1
FROM session WHERE {_IS_OURS}
"""
_ADOPT = """
INSERT INTO session (uuid, user_id, app, adk_id, class_name, ttl, created_at, last_activity, expires_at, expired_at,
    adk_row, bytes, charged)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11, $11)
ON CONFLICT DO NOTHING RETURNING 1
"""
_HAS_ROW = "UPDATE session SET adk_row = 1 WHERE uuid = $1"
_NOTES = "SELECT number, app, user_id, adk_id FROM adk_note WHERE number > $1 ORDER BY number LIMIT $2"
_FORGET = "DELETE FROM adk_note WHERE number = $1"
# Sessions from a version of this program before ADK's tables. One whose key does not fit into them never gets a row.
_WITHOUT_ROW = f"""
SELECT app, user_id, adk_id FROM session
WHERE adk_row = 0 AND deleted_at IS NULL AND length(app) <= {LONGEST_ID} AND length(user_id) <= {LONGEST_ID}
LIMIT $1
"""

Note = tuple[int | None, AdkKey]
"""A key to reconcile, with the number of its note, or None if there is no note."""


class Located(NamedTuple):
    """A live session with its ADK row. ``behind``: events of its turns may be missing in ADK's tables."""

    key: AdkKey
    record: Session
    behind: bool


class Reconciled(NamedTuple):
    """The live session of a key, and the uuid of one that was closed."""

    session: Session | None = None
    adopted: bool = False
    closed: str | None = None


def find(key: AdkKey, access: Access) -> Transaction[Session | None]:
    """Return our session if ``access`` sees it and it has its ADK row, so that there is nothing to reconcile."""
    rows = yield _FIND, key
    session = session_of(rows[0]) if rows and rows[0][SESSION_WIDTH] else None
    return session if session and sees(access, session.user_id, session.class_name) else None


def locate(now: Micros, adopt_as: AdoptAs, key: AdkKey, access: Access) -> Transaction[Located | None]:
    """Return the session of a key, reconciled if necessary, or None if ``access`` sees no such session.

    Some of ADK's services trim ids and some do not, so an unknown id is also looked up without its outer spaces.
    """
    for each in dict.fromkeys((key, key._replace(id=key.id.strip()))):
        rows = yield _FIND, each
        if rows and rows[0][SESSION_WIDTH]:
            session: Session | None = session_of(rows[0])
            behind = bool(rows[0][SESSION_WIDTH + 1])
        else:
            reconciled = yield from reconcile(now, adopt_as, each)
            session, behind = reconciled.session, True
        if session is not None:
            return Located(each, session, behind) if sees(access, session.user_id, session.class_name) else None
    return None


def record(now: Micros, adopt_as: AdoptAs, key: AdkKey, access: Access) -> Transaction[Session | None]:
    """Return our session, reconciled if necessary, or None if ``access`` sees no such session."""
    located = yield from locate(now, adopt_as, key, access)
    return located and located.record


def close_orphan(now: Micros, adopt_as: AdoptAs, key: AdkKey) -> Transaction[None]:
    """Close our session of that key if its ADK row was removed, so that the key is free."""
    rows = yield _FIND, key
    if rows and not rows[0][SESSION_WIDTH]:
        yield from reconcile(now, adopt_as, key)


def reconcile(now: Micros, adopt_as: AdoptAs, key: AdkKey) -> Transaction[Reconciled]:
    """Adopt or close the session of that key, or make its ADK row, as the current rows demand."""
    live = yield f"{_LIVE} for_update()", key
    updated = yield from adk_rows.lock(key)
    if not live:
        return Reconciled() if updated is None else (yield from _adopt(now, adopt_as, key))
    session = session_of(live[0])
    if live[0][SESSION_WIDTH]:
        if updated is None:
            yield from sessions.delete(now, session.uuid, EVERYTHING)
            return Reconciled(closed=session.uuid)
    else:
        yield from adk_rows.create(key, seconds(session.created_at), Delta({}, {}, {}))
        yield _HAS_ROW, (session.uuid,)
    return Reconciled(session)


def notes(after: int, limit: int) -> Transaction[list[Note]]:
    """Return keys to reconcile, oldest first, of the notes after this number."""
    noted = yield _NOTES, (after, limit)
    without = yield _WITHOUT_ROW, (limit,)
    return [(row[0], AdkKey(*row[1:4])) for row in noted] + [(None, AdkKey(*row[:3])) for row in without]


def sweep(now: Micros, adopt_as: AdoptAs, found: Sequence[Note]) -> Transaction[tuple[int, list[str]]]:
    """Reconcile these keys. Return the number of adopted sessions, and the uuids of the closed ones.

    A session that no class fits keeps its note, because the class may be created later.
    """
    adopted, closed, classless = 0, [], set()
    for number, key in found:
        try:
            done = yield from reconcile(now, adopt_as, key)
        except UnreadableRow as error:  # it must not block all others
            extra = {"event": "store.adk_unreadable", "reason": error.detail}
            log.warning("a session of ADK cannot be adopted", extra=extra)
        except InvalidInput:
            classless.add(key.app)
            continue
        else:
            adopted += done.adopted
            closed += [done.closed] if done.closed else []
        if number is not None:
            yield _FORGET, (number,)
    if classless:
        apps = ", ".join(sorted(classless))
        log.info("sessions of ADK wait for a class", extra={"event": "store.adk_without_class", "apps": apps})
    return adopted, closed


def _adopt(now: Micros, adopt_as: AdoptAs, key: AdkKey) -> Transaction[Reconciled]:
    class_name, ttl = adopt_as(key.app)
    [row] = yield _ROW, key
    created, updated = (adk_rows.time_of(value) for value in row[:2])
    active = min(now, micros(updated))
    expires = active + ttl
    expired = now if expires <= now else None
    yield from adk_rows.ensure_states(key, updated)
    ours = (str(uuid4()), key.user_id, key.app, key.id, class_name, ttl)
    adopted = yield _ADOPT, (*ours, min(now, micros(created)), active, expires, expired, int(row[2]))
    live = yield _LIVE, key  # another front door's, if it was faster
    return Reconciled(session_of(live[0]), adopted=bool(adopted))
