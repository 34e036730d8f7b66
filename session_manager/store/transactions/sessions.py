"""Single sessions: create, read, rename, touch, record wakes and failures, expire, delete, remove what is left."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from collections.abc import Sequence

from session_manager.domain.access import Access, Right
from session_manager.domain.adk.limits import check_key
from session_manager.domain.adk.model import AdkKey, Delta
from session_manager.domain.errors import Conflict, NotFound
from session_manager.domain.message import MessageStatus
from session_manager.domain.quota import Quotas
from session_manager.domain.session import Failure, Session
from session_manager.domain.times import Micros, seconds
from session_manager.store.protocol import NewSession
from session_manager.store.transactions import adk_rows, usage
from session_manager.store.transactions.base import SESSION, Transaction, restricted, session_of

NO_SESSION = "No such session"

_CREATE = f"""
INSERT INTO session (uuid, user_id, app, adk_id, class_name, name, ttl, created_at, last_activity, expires_at, adk_row,
    bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 1, $11)
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

PURGE_STEP = 500  # rows of one table per commit: SQLite's only writer needs a few milliseconds

_IDLE = "NOT EXISTS (SELECT 1 FROM message m WHERE m.session = session.uuid AND m.finished_at IS NULL)"
_EXPIRABLE = f"""
SELECT {SESSION} FROM session
WHERE created_at + ttl <= $1 AND expires_at <= $1 AND expired_at IS NULL AND deleted_at IS NULL AND {_IDLE}
ORDER BY expires_at, uuid LIMIT $2
"""
_EXPIRE = f"""
UPDATE session SET expired_at = $2
WHERE uuid = $1 AND last_activity = $3 AND expired_at IS NULL AND deleted_at IS NULL AND {_IDLE}
RETURNING uuid
"""
_DELETE = "UPDATE session SET deleted_at = $2 WHERE uuid = $1 AND deleted_at IS NULL"
_FAIL_UNFINISHED = f"""
UPDATE message SET finished_at = $2, status = '{MessageStatus.FAILED.value}', error = $3
WHERE session = $1 AND finished_at IS NULL
"""
_DELETED = """
SELECT uuid FROM session WHERE deleted_at IS NOT NULL AND purged_at IS NULL ORDER BY deleted_at, uuid LIMIT $1
"""
# An update that changes nothing, to lock the row: each transaction locks the session before its messages.
_LOCK_DELETED = """
UPDATE session SET deleted_at = deleted_at WHERE uuid = $1 AND deleted_at IS NOT NULL RETURNING 1
"""
_PURGE_EVENTS = """
DELETE FROM session_event WHERE session = $1
AND number IN (SELECT number FROM session_event WHERE session = $1 ORDER BY number LIMIT $2) RETURNING 1
"""
_PURGE_MESSAGES = """
DELETE FROM message WHERE session = $1
AND seq IN (SELECT seq FROM message WHERE session = $1 ORDER BY seq LIMIT $2) RETURNING 1
"""
_PURGED = "UPDATE session SET purged_at = coalesce(purged_at, $2) WHERE uuid = $1"
_REOPEN = "UPDATE session SET purged_at = NULL WHERE deleted_at IS NOT NULL AND purged_at IS NOT NULL"
_DROP = "DELETE FROM session WHERE deleted_at < $1 AND purged_at IS NOT NULL RETURNING 1"


def create(now: Micros, quotas: Quotas, new: NewSession) -> Transaction[Session]:
    """Create a session. Raises Conflict if its uuid or its ADK key is taken, QuotaExceeded if the user has too many."""
    session = yield from adopt(now, new)
    yield from usage.check_sessions(new.user_id, quotas)
    return session


def adopt(now: Micros, new: NewSession) -> Transaction[Session]:
    """Create a session whatever the quota of its user is. Raises Conflict as ``create`` does."""
    session = yield from insert(now, new, AdkKey(new.class_name, new.user_id, new.uuid), Delta({}, {}, {}))
    if session is None:
        raise Conflict("A session with this id already exists")
    return session


def insert(now: Micros, new: NewSession, key: AdkKey, state: Delta) -> Transaction[Session | None]:
    """Insert our row and ADK's. If one of them exists, return None; then the transaction must be undone."""
    check_key(key)
    ours = (new.uuid, key.user_id, key.app, key.id, new.class_name, new.name)
    size = usage.size(adk_rows.dump(state.session)) if state.session else 0
    rows = yield _CREATE, (*ours, new.ttl, now, now, now + new.ttl, size)
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


def expirable(now: Micros, limit: int) -> Transaction[list[Session]]:
    rows = yield _EXPIRABLE, (now, limit)
    return [session_of(row) for row in rows]


def expire(now: Micros, uuid: str, last_activity: Micros) -> Transaction[bool]:
    return bool((yield _EXPIRE, (uuid, now, last_activity)))


def delete(now: Micros, uuid: str, access: Access) -> Transaction[None]:
    sql, params = restricted(_DELETE, access, Right.MANAGE, uuid, now)
    if not (yield f"{sql} RETURNING uuid", params):
        raise NotFound(NO_SESSION)
    yield _FAIL_UNFINISHED, (uuid, now, "The session was deleted")


def deleted(limit: int) -> Transaction[list[str]]:
    rows = yield _DELETED, (limit,)
    return [row[0] for row in rows]


def purge_some(now: Micros, uuid: str) -> Transaction[bool]:
    """Remove some rows of a deleted session. Return True once none are left, which is recorded."""
    if not (yield _LOCK_DELETED, (uuid,)):
        return True
    events = yield _PURGE_EVENTS, (uuid, PURGE_STEP)
    messages = yield _PURGE_MESSAGES, (uuid, PURGE_STEP)
    if max(len(events), len(messages)) == PURGE_STEP:
        return False
    yield _PURGED, (uuid, now)
    return True


def reopen(now: Micros) -> Transaction[None]:
    yield _REOPEN, ()


def drop_tombstones(now: Micros, before: Micros) -> Transaction[int]:
    return len((yield _DROP, (before,)))
