"""A transaction is a generator that yields ``(sql, parameters)`` and receives the rows.

The engine runs it between its own BEGIN and COMMIT; an exception from it undoes everything. The SQL uses only what
SQLite and PostgreSQL have in common: ``$1`` placeholders, RETURNING, row values, partial indexes. It never contains
values. For everything that the engines spell differently it has words that look like functions: ``ids($1)`` is the set
of strings in a JSON array; ``as_time($1)`` is a parameter in Unix seconds, ``unix(column)`` is the reverse;
``as_json($1)`` is JSON text; ``for_update()`` ends a SELECT that locks its rows; ``tie(table)`` orders events of the
same time; ``octets(column)`` is the length in bytes, ``same_bytes(column)`` text that compares by bytes.
``lock_user($1)``, ``lock_usage()`` and ``use_now()`` are statements: until the commit no other transaction locks
the same user, or changes ``user_usage``; its triggers run now instead of at the commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeAlias, TypeVar, assert_never

from session_manager.domain.access import Access, Classes, Everything, Nothing, OneSession, OwnedBy, Right
from session_manager.domain.errors import Forbidden
from session_manager.domain.message import Message, MessageStatus
from session_manager.domain.session import Failure, Session

T = TypeVar("T")

_WORD = re.compile(
    r"\b(ids|as_time|unix|as_json|for_update|tie|octets|same_bytes|lock_user|lock_usage|use_now)\(([\w.$]*)\)"
)

_SQLITE = {
    "ids": "(SELECT value FROM json_each({}))",
    "as_time": "{}",
    "unix": "{}",
    "as_json": "{}",
    "for_update": "",
    "tie": "{}.rowid",
    "octets": "length(CAST({} AS BLOB))",
    "same_bytes": "{}",
    "lock_user": "SELECT {}",
    "lock_usage": "SELECT 1",
    "use_now": "SELECT 1",
}
_POSTGRES = {
    "ids": "(SELECT json_array_elements_text({}::json))",
    "as_time": "(to_timestamp({}) AT TIME ZONE 'UTC')",
    "unix": "extract(epoch FROM {})::float8",
    "as_json": "{}::jsonb",
    "for_update": "FOR NO KEY UPDATE",
    "tie": "{}.id",
    "octets": "octet_length({}::text)",
    "lock_user": "SELECT pg_advisory_xact_lock(hashtextextended({}, 7310868735422100578))",
    "same_bytes": '{} COLLATE "C"',
    "lock_usage": "LOCK TABLE user_usage IN EXCLUSIVE MODE",
    "use_now": "SET CONSTRAINTS ALL IMMEDIATE",
}

_STATUSES = {status.value: status for status in MessageStatus}

SESSION = """
session.uuid, session.user_id, session.app, session.adk_id, session.class_name, session.name,
session.created_at, session.last_activity, session.expires_at, session.woken_at, session.expired_at,
session.failed_at, session.failure_reason, session.failure_remedy, session.failure_next_try, session.failure_tries
"""
SESSION_WIDTH = SESSION.count(",") + 1
MESSAGE = """
message.id, message.session, message.seq, message.text, message.accepted_at, message.attempt, message.deaths,
message.finished_at, message.status, message.response, message.error, message.caller, message.payload, message.trace
"""
MESSAGE_WIDTH = MESSAGE.count(",") + 1
EVENT = "number, kind, message_id, data, created_at"
UNFINISHED = "message.id, message.session, message.seq, session.class_name, message.accepted_at, session.user_id"

_OF_A_TURN = frozenset({Right.READ, Right.WRITE})


class Row(Protocol):
    """A row. Its columns are accessed by position or slice, or all in their order."""

    def __getitem__(self, index: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


Statement: TypeAlias = tuple[str, Sequence[object]]
Transaction: TypeAlias = Generator[Statement, Sequence[Row], T]


async def run(transaction: Transaction[T], fetch: Callable[..., Awaitable[Sequence[Row]]]) -> T:
    """Run a transaction on an asynchronous connection. ``fetch`` takes a statement and its parameters."""
    try:
        sql, params = next(transaction)
        while True:
            sql, params = transaction.send(await fetch(sql, *params))
    except StopIteration as stop:
        value: T = stop.value
        return value


@cache
def in_sqlite(sql: str) -> str:
    """Return the statement in SQLite's SQL."""
    return _WORD.sub(lambda found: _SQLITE[found[1]].format(found[2]), sql).replace("$", "?")


@cache
def in_postgres(sql: str) -> str:
    """Return the statement in PostgreSQL's SQL."""
    return _WORD.sub(lambda found: _POSTGRES[found[1]].format(found[2]), sql)


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
        row[0], row[1], row[2], row[3], row[4], row[5], row[6],
        row[7], status, row[9], row[10], row[11], row[12], row[13],
    )  # fmt: skip


def may(access: Access, right: Right, number: int) -> tuple[str, tuple[object, ...]]:
    """Return the condition on ``session``, and its parameters, which begin at ``$number``."""
    match access:
        case Everything(classes):
            return _of_classes(classes, number)
        case OwnedBy(user, classes):
            condition, params = _of_classes(classes, number + 1)
            return f"session.user_id = ${number} AND {condition}", (user, *params)
        case OneSession(uuid, attempt) if right in _OF_A_TURN:
            turn = f"turn.id = ${number + 1} AND turn.session = ${number} AND turn.attempt = ${number + 2}"
            is_open = f"EXISTS (SELECT 1 FROM message AS turn WHERE {turn} AND turn.finished_at IS NULL)"  # noqa: S608
            return f"session.uuid = ${number} AND {is_open}", (uuid, *attempt)
        case OneSession() | Nothing():
            return "1 = 0", ()
        case _:
            assert_never(access)


def _of_classes(classes: Classes, number: int) -> tuple[str, tuple[object, ...]]:
    if classes is None:
        return "1 = 1", ()
    return f"session.class_name IN ids(${number})", (json.dumps(sorted(classes)),)


def restricted(sql: str, access: Access, right: Right, *params: object) -> Statement:
    """Return the statement restricted to sessions on which ``access`` has ``right``.

    ``sql`` must name the table ``session`` and end in its WHERE clause.
    """
    condition, more = may(access, right, len(params) + 1)
    return f"{sql} AND {condition}", (*params, *more)


def reject_turn(access: Access, uuid: str | None) -> None:
    """Raise Forbidden for the access of a turn that does not reach the session ``uuid``."""
    if isinstance(access, OneSession):
        another = access.uuid != uuid
        raise Forbidden("this token is for another session" if another else "the turn of this token has ended")
