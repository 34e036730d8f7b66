"""The port to a database that is copied, merged or counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from session_manager.databases.tables import Table
from session_manager.store.schema.upgrade import Dialect
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")
Row = tuple[Any, ...]


class RowRefused(Exception):
    """The database cannot store a row, because of a constraint or a value. The text is for people."""


class Database(Protocol):
    """One connection, used by one task. ``shown`` is its address without secrets."""

    shown: str
    dialect: Dialect

    async def close(self) -> None: ...

    async def tables(self) -> dict[str, Table]:
        """Return all tables by name, in the order of their creation."""
        ...

    async def fetch(self, sql: str, *params: object) -> Sequence[Row]:
        """Run one statement with $1, $2, …"""
        ...

    async def run(self, transaction: Transaction[T]) -> T: ...

    def rows(self, table: Table, after: Sequence[Any] | None = None) -> AsyncIterator[Row]:
        """Yield rows: the columns, then the values of ``table.order``, which sorts them. Needs a transaction.

        ``after`` is the value of ``table.order`` after which to start.
        """
        ...

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert all rows or none. Raises RowRefused if one does not fit."""
        ...

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Begin a transaction in which all reads see the same state of the database."""
        ...

    def writing(self, *, keep: bool = True) -> AbstractAsyncContextManager[None]:
        """Begin a transaction. It is rolled back if ``keep`` is False or an exception is raised."""
        ...

    async def reset_counters(self) -> None:
        """Make each counter continue after the numbers of the copied rows."""
        ...

    async def size(self) -> dict[str, int]:
        """Return the bytes on disk of the whole ``database``, and by table if the engine knows them."""
        ...
