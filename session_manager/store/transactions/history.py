"""Reads of messages and events, and of unfinished messages."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from session_manager.domain.access import Access, Right
from session_manager.domain.errors import NotFound
from session_manager.domain.message import Message, StoredEvent, Unfinished
from session_manager.domain.times import Micros
from session_manager.store.transactions import sessions
from session_manager.store.transactions.access import restricted
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import EVENT, MESSAGE, UNFINISHED, event_of, message_of, unfinished_of

_GET = f"""
SELECT {MESSAGE} FROM message JOIN session ON session.uuid = message.session
WHERE message.id = $2 AND message.session = $1 AND session.deleted_at IS NULL
"""
_LIST = f"SELECT {MESSAGE} FROM message WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $3"
_EVENTS = f"""
SELECT {EVENT} FROM session_event
WHERE session = $1 AND number > $2 AND EXISTS (SELECT 1 FROM session WHERE uuid = $1 AND deleted_at IS NULL)
ORDER BY number LIMIT $3
"""
_BACKLOG = "SELECT count(*), min(accepted_at) FROM message WHERE finished_at IS NULL"
_ANY_UNFINISHED = "SELECT 1 FROM message WHERE finished_at IS NULL LIMIT 1"
_UNFINISHED = f"""
SELECT {UNFINISHED} FROM message JOIN session ON session.uuid = message.session
WHERE message.finished_at IS NULL
"""
_UNFINISHED_BEFORE = f"""
{_UNFINISHED} AND message.accepted_at < $1 AND (message.session, message.seq) > ($2, $3)
ORDER BY message.session, message.seq LIMIT $4
"""
_UNFINISHED_OF = f"{_UNFINISHED} AND message.session = $1 ORDER BY message.seq"


def get(session: str, message_id: str, access: Access) -> Transaction[Message]:
    rows = yield restricted(_GET, access, Right.READ, session, message_id)
    if not rows:
        raise NotFound("No such message")
    return message_of(rows[0])


def page(session: str, access: Access, limit: int, after_seq: int = 0) -> Transaction[list[Message]]:
    yield from sessions.get(session, access)
    rows = yield _LIST, (session, after_seq, limit)
    return [message_of(row) for row in rows]


def events(session: str, after: int, limit: int) -> Transaction[list[StoredEvent]]:
    rows = yield _EVENTS, (session, after, limit)
    return [event_of(row) for row in rows]


def backlog() -> Transaction[tuple[int, Micros | None]]:
    rows = yield _BACKLOG, ()
    return rows[0][0], rows[0][1]


def any_unfinished() -> Transaction[bool]:
    return bool((yield _ANY_UNFINISHED, ()))


def unfinished(
    accepted_before: Micros, limit: int, after: tuple[str, int] | None = None
) -> Transaction[list[Unfinished]]:
    session, seq = after or ("", 0)
    rows = yield _UNFINISHED_BEFORE, (accepted_before, session, seq, limit)
    return [unfinished_of(row) for row in rows]


def unfinished_in(session: str) -> Transaction[list[Unfinished]]:
    rows = yield _UNFINISHED_OF, (session,)
    return [unfinished_of(row) for row in rows]
