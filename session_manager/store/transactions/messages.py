"""Messages and events. ``attempt`` is the fence of a turn: a write for an older attempt changes nothing.

The statements here check it, and so do ``_RECORD`` of the PostgreSQL adapter, which replaces ``record``, and for the
token of a turn ``_OPEN_ATTEMPT`` in ``adk_sessions`` and the condition that ``base.may`` returns.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from session_manager.domain.access import Access, Right
from session_manager.domain.adk.model import AdkKey, AdkTurn
from session_manager.domain.errors import Conflict, IdempotencyMismatch, NotFound
from session_manager.domain.message import Accepted, Cancelled, Message, NewMessage, Outcome, StoredEvent, Unfinished
from session_manager.domain.quota import Quotas
from session_manager.domain.session import Session
from session_manager.domain.times import Micros
from session_manager.store.protocol import ANY_SIZE
from session_manager.store.transactions import adk_turns, sessions, usage
from session_manager.store.transactions.base import (
    EVENT,
    MESSAGE,
    SESSION,
    SESSION_WIDTH,
    UNFINISHED,
    Row,
    Transaction,
    message_of,
    restricted,
    session_of,
)
from session_manager.store.transactions.sessions import NO_SESSION

CANCELLED = "cancelled"

_LOWEST = "(SELECT min(seq) FROM message WHERE session = $1 AND finished_at IS NULL)"

# This does not set expired_at: even NULL over NULL would rewrite each index that includes it.
_NEXT_SEQ = """
UPDATE session SET last_seq = last_seq + 1, last_activity = $2, expires_at = $2 + ttl, bytes = bytes + $3
WHERE uuid = $1 AND deleted_at IS NULL
"""
_NUMBERED = f"""
SELECT {SESSION}, last_seq, {_LOWEST}, bytes - charged,
    (SELECT bytes FROM user_usage WHERE user_usage.user_id = session.user_id)
FROM session WHERE uuid = $1 AND deleted_at IS NULL
"""
_REVIVE = "UPDATE session SET expired_at = NULL WHERE uuid = $1"
_INSERT = """
INSERT INTO message (id, session, seq, caller, idempotency_key, body_hash, text, accepted_at, payload, trace)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_ACCEPTED = f"""
SELECT {SESSION}, {_LOWEST}, body_hash, {MESSAGE}
FROM session JOIN message ON message.session = session.uuid
WHERE session.uuid = $1 AND session.deleted_at IS NULL
"""
_BY_ID = f"{_ACCEPTED} AND message.id = $2"
_KNOWN = f"{_ACCEPTED} AND message.caller = $2 AND message.idempotency_key = $3"

_REDELIVER = f"UPDATE message SET attempt = attempt + 1 WHERE id = $1 AND finished_at IS NULL RETURNING {MESSAGE}"
_DIED = """
UPDATE message SET deaths = deaths + 1 WHERE id = $1 AND attempt = $2 AND finished_at IS NULL RETURNING deaths
"""
# Reading first and then writing is correct with one writer, and cheaper than RETURNING. PostgreSQL has its own
# statement for this.
_OPEN = """
SELECT message.session, session.last_event, session.app, session.user_id, session.adk_id, message.adk_kept,
    session.bytes - session.charged
FROM message JOIN session ON session.uuid = message.session
WHERE message.id = $1 AND message.finished_at IS NULL AND message.attempt = coalesce($2, message.attempt)
"""
_CANCELLABLE = "SELECT class_name, last_event, bytes - charged FROM session WHERE uuid = $1 AND deleted_at IS NULL"
_IN_SESSION = f"SELECT {MESSAGE} FROM message WHERE id = $1 AND session = $2"
_LOCK = "SELECT uuid FROM session WHERE uuid = (SELECT session FROM message WHERE id = $1) for_update()"
_NUMBER_EVENTS = """
UPDATE session
SET last_activity = $2, expires_at = $2 + ttl, last_event = last_event + $3, bytes = bytes + $4 WHERE uuid = $1
"""
_FINISH = "UPDATE message SET finished_at = $2, status = $3, response = $4, error = $5 WHERE id = $1"
_ADD_EVENT = """
INSERT INTO session_event (session, number, kind, message_id, data, created_at) VALUES ($1, $2, $3, $4, $5, $6)
"""

_FIND = f"""
SELECT {MESSAGE} FROM message JOIN session ON session.uuid = message.session
WHERE message.id = $2 AND message.session = $1 AND session.deleted_at IS NULL
"""
# The texts themselves are read for the page only, not for the sum.
_LIST = f"""
WITH following AS (
    SELECT seq, octets(text) + COALESCE(octets(response), 0) + COALESCE(octets(payload), 0) AS size FROM message
    WHERE session = $1 AND seq > $2 ORDER BY seq LIMIT $3
), summed AS (SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before FROM following)
SELECT {MESSAGE} FROM message WHERE session = $1 AND seq IN (SELECT seq FROM summed WHERE before < $4) ORDER BY seq
"""
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


def accept(now: Micros, quotas: Quotas, new: NewMessage, access: Access) -> Transaction[Accepted]:
    if new.idempotency_key is not None:
        known = yield from find_repeated(new, access)
        if known is not None:
            return known
    yield restricted(_NEXT_SEQ, access, Right.WRITE, new.session, now, usage.size(new.text, new.payload))
    rows = yield restricted(_NUMBERED, access, Right.WRITE, new.session)
    if not rows:
        raise NotFound(NO_SESSION)
    session, (seq, lowest, uncharged, known) = session_of(rows[0]), rows[0][SESSION_WIDTH:]
    if lowest is not None:
        yield from usage.check_queue(session.uuid, session.user_id, quotas.of(session.user_id), seq - lowest)
    usage.check_known(session.user_id, quotas, known)
    if uncharged >= usage.STEP:
        yield from usage.charge(session.uuid, session.user_id, quotas)
    if session.expired_at is not None:
        yield _REVIVE, (new.session,)
        session = session._replace(expired_at=None)
    key = (new.idempotency_key, new.body_hash)
    yield _INSERT, (new.id, new.session, seq, new.caller, *key, new.text, now, new.payload, new.trace)
    return accepted(new, session, seq, seq if lowest is None else lowest, now)


def accepted(new: NewMessage, session: Session, seq: int, lowest: int, now: Micros) -> Accepted:
    """Return the result for a message that was just written."""
    message = Message(
        new.id, new.session, seq, new.text, now, 1, 0, caller=new.caller, payload=new.payload, trace=new.trace
    )
    return Accepted(message, session, lowest)


def find_repeated(new: NewMessage, access: Access) -> Transaction[Accepted | None]:
    """Return the message that this caller sent with this Idempotency-Key, or None if there is none."""
    rows = yield restricted(_KNOWN, access, Right.WRITE, new.session, new.caller, new.idempotency_key)
    if not rows:
        return None
    if rows[0][SESSION_WIDTH + 1] != new.body_hash:
        raise IdempotencyMismatch
    return _accepted_before(rows[0], repeated=True)


def find_accepted(new: NewMessage) -> Transaction[Accepted | None]:
    """Return this message if it was accepted before."""
    rows = yield _BY_ID, (new.session, new.id)
    return _accepted_before(rows[0], repeated=False) if rows else None


def _accepted_before(row: Row, *, repeated: bool) -> Accepted:
    lowest, message = row[SESSION_WIDTH], message_of(row[SESSION_WIDTH + 2 :])
    return Accepted(message, session_of(row), message.seq if lowest is None else lowest, repeated)


def redeliver(now: Micros, message_id: str) -> Transaction[Message | None]:
    rows = yield _REDELIVER, (message_id,)
    return message_of(rows[0]) if rows else None


def died(now: Micros, message_id: str, attempt: int) -> Transaction[int | None]:
    rows = yield _DIED, (message_id, attempt)
    return int(rows[0][0]) if rows else None


class Recorded(NamedTuple):
    """The events of a result, and the bytes that its session has not reported to the usage of its user."""

    session: str
    events: list[StoredEvent]
    uncharged: int


def record(
    now: Micros,
    message_id: str,
    attempt: int | None,
    outcome: Outcome,
    events: Sequence[tuple[str, str]] = (),
    adk: AdkTurn | None = None,
) -> Transaction[list[StoredEvent] | None]:
    done = yield from _record(now, message_id, attempt, outcome, events, adk)
    if done is None:
        return None
    if done.uncharged >= usage.STEP:
        yield usage.REPORT, (done.session,)
    return done.events


def _record(
    now: Micros,
    message_id: str,
    attempt: int | None,
    outcome: Outcome,
    events: Sequence[tuple[str, str]],
    adk: AdkTurn | None,
) -> Transaction[Recorded | None]:
    rows = yield _OPEN, (message_id, attempt)
    if not rows:
        return None
    session, last = rows[0][0], rows[0][1] + len(events)
    if adk is not None:
        yield from adk_turns.add_turn(now, session, AdkKey(*rows[0][2:5]), adk, kept=bool(rows[0][5]))
    stored = yield from _finish(now, session, message_id, outcome, numbered_events(message_id, events, last, now))
    if adk is None:
        return Recorded(session, stored, rows[0][6] + size_of_end(outcome, [data for _, data in events]))
    [row] = yield adk_turns.WRITTEN, (session, last)
    return Recorded(session, stored, row[0])


def _finish(
    now: Micros, session: str, message_id: str, outcome: Outcome, events: list[StoredEvent]
) -> Transaction[list[StoredEvent]]:
    yield _NUMBER_EVENTS, (session, now, len(events), size_of_end(outcome, [event.data for event in events]))
    yield _FINISH, (message_id, now, outcome.status.value, outcome.response, cleaned_error(outcome.error))
    for event in events:
        yield _ADD_EVENT, (session, event.number, event.kind, message_id, event.data, now)
    return events


def size_of_end(outcome: Outcome, data: Iterable[str]) -> int:
    """Return the bytes by which the end of a message makes its session grow. ``data`` is that of its events."""
    return usage.size(outcome.response, outcome.error, *data)


def record_locked(now: Micros, message_id: str, *rest: Any) -> Transaction[Recorded | None]:
    """``record`` for an engine with concurrent writers: lock the session's row, and only then read the message.

    The caller reports what is not charged, since that could wait for another transaction of the same user.
    """
    yield _LOCK, (message_id,)
    return (yield from _record(now, message_id, *rest))


def cancel(now: Micros, session: str, message_id: str, access: Access) -> Transaction[Cancelled]:
    """End an unfinished message as failed. Raises NotFound, or Conflict if it has ended."""
    sql, params = restricted(_CANCELLABLE, access, Right.WRITE, session)
    found = yield f"{sql} for_update()", params
    if not found:
        raise NotFound(NO_SESSION)
    rows = yield _IN_SESSION, (message_id, session)
    if not rows:
        raise NotFound("No such message")
    message, outcome = message_of(rows[0]), Outcome.failed(CANCELLED)
    if message.finished_at is not None:
        raise Conflict("the message has already ended")
    events = numbered_events(message_id, [("turn.failed", "{}")], found[0][1] + 1, now)
    [event] = yield from _finish(now, session, message_id, outcome, events)
    if found[0][2] + size_of_end(outcome, ["{}"]) >= usage.STEP:
        yield usage.REPORT, (session,)
    ended = message._replace(finished_at=now, status=outcome.status, error=outcome.error)
    return Cancelled(ended, event, found[0][0])


def cleaned_error(error: str | None) -> str | None:
    """Return an error text without the characters that no engine stores: it may quote what a pod sent."""
    return error and error.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def numbered_events(message_id: str, events: Sequence[tuple[str, str]], last: int, now: Micros) -> list[StoredEvent]:
    """Return the events as stored, if ``last`` is the number of the last one."""
    first = last - len(events) + 1
    return [StoredEvent(first + i, kind, message_id, data, now) for i, (kind, data) in enumerate(events)]


def find(session: str, message_id: str, access: Access) -> Transaction[Message]:
    rows = yield restricted(_FIND, access, Right.READ, session, message_id)
    if not rows:
        raise NotFound("No such message")
    return message_of(rows[0])


def page(
    session: str, access: Access, limit: int, after_seq: int = 0, size: int = ANY_SIZE
) -> Transaction[list[Message]]:
    yield from sessions.get(session, access)
    rows = yield _LIST, (session, after_seq, limit, size)
    return [message_of(row) for row in rows]


def events(session: str, after: int, limit: int) -> Transaction[list[StoredEvent]]:
    rows = yield _EVENTS, (session, after, limit)
    return [StoredEvent(*row) for row in rows]


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
    return [Unfinished(*row) for row in rows]


def unfinished_in(session: str) -> Transaction[list[Unfinished]]:
    rows = yield _UNFINISHED_OF, (session,)
    return [Unfinished(*row) for row in rows]
