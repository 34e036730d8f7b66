"""The usage of users, and the checks of their quotas, inside the transaction that would use more.

``session.bytes`` is moved by the updates that each write makes anyway.  ``user_usage`` has the sums of a user: triggers
keep it, so it is right whatever program writes.  Since all turns of a user would wait for its one row, a session
reports its bytes there in steps: ``session.charged`` is what was reported.  A result is reported as soon as it is
recorded, and never refused; a user who has too much by then sends no further message.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Iterable

from session_manager.domain.adk.model import AdkEvent
from session_manager.domain.errors import QueueFull, QuotaExceeded, StorageFull
from session_manager.domain.quota import Quota, Quotas, Usage
from session_manager.domain.times import Micros
from session_manager.store.transactions.base import Statement, Transaction

STEP = 64 * 1024  # bytes
_UNLIMITED = 2**62  # bytes

_GROW = "UPDATE session SET bytes = bytes + $2 WHERE uuid = $1"
REPORT = f"UPDATE session SET charged = bytes WHERE uuid = $1 AND bytes - charged >= {STEP} RETURNING 1"
REPORT_OF_MESSAGE = f"""
UPDATE session SET charged = bytes
WHERE uuid = (SELECT session FROM message WHERE id = $1) AND bytes - charged >= {STEP}
"""
_USED = "SELECT sessions, bytes FROM user_usage WHERE user_id = $1"
_WAITING_IN = "SELECT count(*) FROM message WHERE session = $1 AND finished_at IS NULL"
UNFINISHED_OF_USER = """
SELECT count(*) FROM session JOIN message ON message.session = session.uuid
WHERE session.user_id = $1 AND session.deleted_at IS NULL AND message.finished_at IS NULL
"""
_LOCK_USER = "lock_user($1)"
_USE_NOW = "use_now()"

_OF_MESSAGES = """
SELECT coalesce(sum(octets(text) + coalesce(octets(payload), 0) + coalesce(octets(response), 0)
    + coalesce(octets(error), 0)), 0) FROM message WHERE message.session = session.uuid
"""
_OF_FEED = "SELECT coalesce(sum(octets(data)), 0) FROM session_event WHERE session_event.session = session.uuid"
_OF_EVENTS = """
SELECT coalesce(sum(octets(event_data)), 0) FROM events
WHERE app_name = session.app AND events.user_id = session.user_id AND session_id = session.adk_id
"""
_MEASURE = f"UPDATE session SET bytes = ({_OF_MESSAGES}) + ({_OF_FEED}) + ({_OF_EVENTS}) WHERE deleted_at IS NULL"
_CHARGE_ALL = "UPDATE session SET charged = bytes WHERE deleted_at IS NULL AND charged <> bytes"
_KNOWN = "SELECT user_id, sessions, bytes FROM user_usage ORDER BY user_id"
_FORGET = "DELETE FROM user_usage"
_SUM_UP = """
INSERT INTO user_usage (user_id, sessions, bytes)
SELECT user_id, sum(sessions), sum(bytes) FROM (
    SELECT user_id, count(*) - count(expired_at) AS sessions, sum(charged) AS bytes FROM session
    WHERE deleted_at IS NULL GROUP BY user_id
    UNION ALL SELECT user_id, 0, octets(part) + octets(custom_metadata) FROM artifact
    UNION ALL SELECT user_id, 0, octets(words) + octets(data) FROM memory
    UNION ALL SELECT same_bytes(user_id), 0, octets(state) FROM user_states
) AS found GROUP BY user_id
"""


def size(*texts: str | None) -> int:
    """Return the bytes of these texts in UTF-8. Text of ASCII, which is most JSON, is not encoded for that."""
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts if text)


def size_of(events: Iterable[AdkEvent]) -> int:
    return size(*(event.data for event in events))


def grow(uuid: str, by: int) -> Statement:
    """Return the statement that adds bytes to a session, whose row must be locked or new."""
    return _GROW, (uuid, by)


def check_sessions(user: str, quotas: Quotas) -> Transaction[None]:
    """Raise QuotaExceeded if the user now has too many sessions, StorageFull if they store too much."""
    quota = quotas.of(user)
    if quota.sessions or quota.stored:
        sessions, stored = yield from _used(user)
        if quota.sessions and sessions > quota.sessions:
            raise QuotaExceeded(user, "sessions", quota.sessions, sessions - 1)
        _check_stored(user, quota, stored)


def check_stored(user: str, quotas: Quotas) -> Transaction[None]:
    """Raise StorageFull if the user now stores too much."""
    quota = quotas.of(user)
    if quota.stored:
        _check_stored(user, quota, (yield from _used(user))[1])


def charge(uuid: str, user: str, quotas: Quotas) -> Transaction[None]:
    """Report what the session has grown by, if it is a step. Raise StorageFull if the user now stores too much."""
    if (yield REPORT, (uuid,)):
        yield from check_stored(user, quotas)


def limits_of_bytes(quotas: Quotas) -> tuple[int | None, str | None]:
    """Return the limit of most users, or None if no user has one, and the limits of the others by name, as JSON."""
    if not quotas.smallest.stored:
        return None, None
    named = {user: quota.stored or _UNLIMITED for user, quota in quotas.named.items()}
    return quotas.default.stored or _UNLIMITED, json.dumps(named) if named else None


def check_known(user: str, quotas: Quotas, known: int | None) -> None:
    """Raise StorageFull if the user has too much already. ``known`` is what sessions have reported, None for none."""
    _check_stored(user, quotas.of(user), known or 0)


def report(now: Micros, uuid: str) -> Transaction[None]:
    """Report what the session has grown by, if it is a step, whatever the quota of its user is."""
    yield REPORT, (uuid,)


def check_queue(uuid: str, user: str, quota: Quota, span: int) -> Transaction[None]:
    """Raise QueueFull if too many messages wait for one more that has to wait behind another one.

    ``span``: from the oldest unfinished seq of the session to the newest one. Cancelled messages may lie between.
    """
    if quota.session_messages and span >= quota.session_messages:
        [row] = yield _WAITING_IN, (uuid,)
        if row[0] >= quota.session_messages:
            raise QueueFull("this session", "session_messages", quota.session_messages, row[0])
    if quota.messages:
        yield _LOCK_USER, (user,)
        [row] = yield UNFINISHED_OF_USER, (user,)
        if row[0] >= quota.messages:
            raise QueueFull(user, "messages", quota.messages, row[0])


def of_user(user: str) -> Transaction[Usage]:
    """Return what the user has. The bytes lack what sessions have not reported yet."""
    rows = yield _USED, (user,)
    [row] = yield UNFINISHED_OF_USER, (user,)
    return Usage(rows[0][0], row[0], rows[0][1]) if rows else Usage(0, row[0], 0)


def stored(user: str) -> Transaction[int]:
    """Return the bytes that the user has, as ``of_user`` does."""
    rows = yield _USED, (user,)
    return rows[0][1] if rows else 0


def recount() -> Transaction[list[str]]:
    """Measure everything anew, and return the users for whom something else was recorded. This reads all messages.

    They include users whose sessions had grown by less than a step since they reported it.

    ADK programs that write to the database themselves do not report what their sessions grow by.
    """
    yield "lock_usage()", ()
    known = yield _KNOWN, ()
    yield _MEASURE, ()
    yield _CHARGE_ALL, ()
    yield _USE_NOW, ()
    yield _FORGET, ()
    yield _SUM_UP, ()
    found = yield _KNOWN, ()
    return sorted({row[0] for row in {*map(tuple, known)} ^ {*map(tuple, found)} if any(row[1:])})


def _used(user: str) -> Transaction[tuple[int, int]]:
    """Return the sessions and bytes of the user as of this transaction, which holds their row from now on."""
    yield _USE_NOW, ()
    rows = yield _USED, (user,)
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


def _check_stored(user: str, quota: Quota, stored: int) -> None:
    if quota.stored and stored > quota.stored:
        raise StorageFull(user, "stored", quota.stored, stored)
