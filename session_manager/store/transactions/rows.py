"""Columns, and the domain objects made from rows of them."""

from __future__ import annotations

from session_manager.domain.message import Message, MessageStatus, StoredEvent, Unfinished
from session_manager.domain.session import Failure, Session
from session_manager.store.transactions.base import Row

_STATUSES = {status.value: status for status in MessageStatus}

SESSION = """
session.uuid, session.user_id, session.app, session.adk_id, session.class_name, session.name,
session.created_at, session.last_activity, session.expires_at, session.woken_at, session.expired_at,
session.failed_at, session.failure_reason, session.failure_remedy, session.failure_next_try, session.failure_tries
"""
SESSION_WIDTH = SESSION.count(",") + 1
MESSAGE = """
message.id, message.session, message.seq, message.text, message.accepted_at, message.attempt, message.deaths,
message.finished_at, message.status, message.response, message.error, message.caller, message.payload
"""
MESSAGE_WIDTH = MESSAGE.count(",") + 1
EVENT = "number, kind, message_id, data, created_at"
UNFINISHED = "message.id, message.session, message.seq, session.class_name, message.accepted_at"


def session_of(row: Row) -> Session:
    """Return the session of a row that begins with the columns ``SESSION``."""
    failure = None if row[11] is None else Failure(row[12], row[13], row[14], row[15])
    return Session(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8], row[9], row[10], failure
    )  # fmt: skip


def message_of(row: Row) -> Message:
    """Return the message of a row that begins with the columns ``MESSAGE``."""
    status = None if row[8] is None else _STATUSES[row[8]]
    return Message(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], status, row[9], row[10], row[11], row[12]
    )  # fmt: skip


def event_of(row: Row) -> StoredEvent:
    """Return the event of a row with the columns ``EVENT``."""
    return StoredEvent(row[0], row[1], row[2], row[3], row[4])


def unfinished_of(row: Row) -> Unfinished:
    """Return the message of a row with the columns ``UNFINISHED``."""
    return Unfinished(row[0], row[1], row[2], row[3], row[4])
