"""Single sessions: create, read, rename, touch, record wakes and failures."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from collections.abc import Sequence

from session_manager.domain.access import Access, Right
from session_manager.domain.adk.limits import check_key
from session_manager.domain.adk.model import AdkKey, Delta
from session_manager.domain.errors import Conflict, NotFound
from session_manager.domain.session import Failure, Session
from session_manager.domain.times import Micros, seconds
from session_manager.store.protocol import NewSession
from session_manager.store.transactions import adk_rows
from session_manager.store.transactions.access import restricted
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import SESSION, session_of

NO_SESSION = "No such session"

_CREATE = f"""
INSERT INTO session (uuid, user_id, app, adk_id, class_name, name, ttl, created_at, last_activity, expires_at, adk_row)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1)
ON CONFLICT DO NOTHING
RETURNING {SESSION}
"""
_GET = f"SELECT {SESSION} FROM session WHERE uuid = $1 AND deleted_at IS NULL"
_RENAME = "UPDATE session SET name = $2 WHERE uuid = $1 AND deleted_at IS NULL"
_TOUCH = """
UPDATE session SET last_activity = $2, expires_at = $2 + ttl, expired_at = NULL,
    failure_next_try = CASE WHEN failed_at IS NULL THEN NULL ELSE $2 END
WHERE uuid = $1 AND deleted_at IS NULL
"""
_WOKEN = """
UPDATE session SET woken_at = coalesce(woken_at, $2), failed_at = NULL, failure_reason = NULL,
    failure_remedy = NULL, failure_next_try = NULL, failure_tries = NULL
WHERE uuid = $1 AND deleted_at IS NULL
"""
_FAILED = """
UPDATE session SET failed_at = $2, failure_reason = $3, failure_remedy = $4, failure_next_try = $5, failure_tries = $6
WHERE uuid = $1 AND deleted_at IS NULL
"""


def create(now: Micros, new: NewSession) -> Transaction[Session]:
    """Create a session. Raises Conflict if its uuid or its ADK key is taken."""
    session = yield from insert(now, new, AdkKey(new.class_name, new.user_id, new.uuid), Delta({}, {}, {}))
    if session is None:
        raise Conflict("A session with this id already exists")
    return session


def insert(now: Micros, new: NewSession, key: AdkKey, state: Delta) -> Transaction[Session | None]:
    """Insert our row and ADK's. If one of them exists, return None; then the transaction must be undone."""
    check_key(key)
    ours = (new.uuid, key.user_id, key.app, key.id, new.class_name, new.name)
    rows = yield _CREATE, (*ours, new.ttl, now, now, now + new.ttl)
    if not rows or (yield from adk_rows.create(key, seconds(now), state)) is None:
        return None
    return session_of(rows[0])


def get(uuid: str, access: Access) -> Transaction[Session]:
    rows = yield restricted(_GET, access, Right.READ, uuid)
    if not rows:
        raise NotFound(NO_SESSION)
    return session_of(rows[0])


def rename(now: Micros, uuid: str, name: str | None, access: Access) -> Transaction[Session]:
    return (yield from _change(*restricted(_RENAME, access, Right.MANAGE, uuid, name)))


def touch(now: Micros, uuid: str, access: Access) -> Transaction[Session]:
    return (yield from _change(*restricted(_TOUCH, access, Right.WAKE, uuid, now)))


def woken(now: Micros, uuid: str) -> Transaction[None]:
    yield _WOKEN, (uuid, now)


def failed(now: Micros, uuid: str, failure: Failure) -> Transaction[None]:
    yield _FAILED, (uuid, now, failure.reason, failure.remedy, failure.next_try, failure.tries)


def _change(sql: str, params: Sequence[object]) -> Transaction[Session]:
    rows = yield f"{sql} RETURNING {SESSION}", params
    if not rows:
        raise NotFound(NO_SESSION)
    return session_of(rows[0])
