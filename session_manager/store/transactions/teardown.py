"""The end of a session: expiry, delete, and the removal of its rows in steps, so that others can write in between."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from session_manager.domain.access import Access, Right
from session_manager.domain.errors import NotFound
from session_manager.domain.message import MessageStatus
from session_manager.domain.session import Session
from session_manager.domain.times import Micros
from session_manager.store.transactions.access import restricted
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import SESSION, session_of
from session_manager.store.transactions.sessions import NO_SESSION

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
