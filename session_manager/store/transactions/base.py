"""A transaction is a generator that yields ``(sql, parameters)`` and receives the rows.

The engine runs it between its own BEGIN and COMMIT; an exception from it undoes everything. The SQL uses only what
SQLite and PostgreSQL have in common: ``$1`` placeholders, RETURNING, row values, partial indexes. It never contains
values. The module ``words`` has a word for each difference between the engines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Row(Protocol):
    """A row. Its columns are accessed by position or slice."""

    def __getitem__(self, index: Any, /) -> Any: ...


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
