"""What copying and merging ask of an engine."""

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
    """The database refused rows: a constraint, or a value that it cannot hold. The text is for people."""


class Engine(Protocol):
    """One connection, used by one task."""

    shown: str
    dialect: Dialect

    async def close(self) -> None: ...

    async def tables(self) -> dict[str, Table]:
        """All tables by name, in the order in which they were made."""
        ...

    async def fetch(self, sql: str, *params: object) -> Sequence[Row]:
        """One statement with $1, $2, …"""
        ...

    async def run(self, transaction: Transaction[T]) -> T: ...

    def rows(self, table: Table, after: Sequence[Any] | None = None) -> AsyncIterator[Row]:
        """Columns, then the values of ``table.order``, by which they come; behind ``after``. Inside a transaction."""
        ...

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """RowRefused when one of them does not fit; then none is there."""
        ...

    def reading(self) -> AbstractAsyncContextManager[None]:
        """All reads see the same state of the database."""
        ...

    def writing(self, *, keep: bool = True) -> AbstractAsyncContextManager[None]:
        """Committed at the end, or undone where ``keep`` is false or something was raised."""
        ...

    async def settle(self) -> None:
        """After rows were copied with their numbers: the next number of every column is a fresh one."""
        ...

    async def size(self) -> dict[str, int]:
        """Bytes on disk: of the whole, and by table where the engine knows it."""
        ...
