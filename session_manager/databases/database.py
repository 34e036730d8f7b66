"""The port to a database that is copied, merged or counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

from session_manager.store.schema.upgrade import Dialect
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")
Row = tuple[Any, ...]


class Kind(Enum):
    """The kind of a column's values. ADK's tables on PostgreSQL have times and JSON."""

    TEXT = "text"
    INT = "int"
    REAL = "real"
    TIME = "time"  # a timestamp without a zone, UTC
    JSON = "json"  # stored as a tree


@dataclass(frozen=True, slots=True)
class Column:
    """A column. ``limit`` is its longest text in characters, or None."""

    name: str
    kind: Kind
    required: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A link from this table's ``columns`` to the columns ``parents`` of ``table``."""

    columns: tuple[str, ...]
    table: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table. ``key`` is the primary key; rows are read by ``order``, on SQLite the order of their creation."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: tuple[str, ...]
    references: tuple[Reference, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def ordered(self, *, after: bool) -> str:
        """Return a SELECT of all rows in their order, or of those after the values of ``order`` in $1, $2, …"""
        order = ", ".join(quoted(self.order))
        places = ", ".join(f"${number}" for number in range(1, len(self.order) + 1))
        return self.select(f"{f' WHERE ({order}) > ({places})' if after else ''} ORDER BY {order}")

    def select(self, where: str = "") -> str:
        """Return a SELECT of its columns in their order, then those of ``order``."""
        wanted = ", ".join(quoted((*self.names, *self.order)))
        return f"SELECT {wanted} FROM {quote(self.name)}{where}"  # noqa: S608  names of the schema, quoted


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str]) -> list[str]:
    return [quote(name) for name in names]


class RowRefused(Exception):
    """The database cannot store a row, because of a constraint or a value. The text is for people."""


class Database(Protocol):
    """One connection, used by one task. ``shown`` is its address without secrets."""

    shown: str
    dialect: Dialect

    async def close(self) -> None: ...

    async def tables(self) -> dict[str, Table]:
        """Return all tables by name, in the order of their creation."""

    async def fetch(self, sql: str, *params: object) -> Sequence[Row]:
        """Run one statement with $1, $2, …"""

    async def run(self, transaction: Transaction[T]) -> T: ...

    def rows(self, table: Table, after: Sequence[Any] | None = None) -> AsyncIterator[Row]:
        """Yield rows: the columns, then the values of ``table.order``, which sorts them. Needs a transaction.

        ``after`` is the value of ``table.order`` after which to start.
        """

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert all rows or none. Raises RowRefused if one does not fit."""

    def reading(self) -> AbstractAsyncContextManager[None]:
        """Begin a transaction in which all reads see the same state of the database."""

    def writing(self, *, keep: bool = True) -> AbstractAsyncContextManager[None]:
        """Begin a transaction. It is rolled back if ``keep`` is False or an exception is raised."""

    async def reset_counters(self) -> None:
        """Make each counter continue after the numbers of the copied rows."""

    async def size(self) -> dict[str, int]:
        """Return the bytes on disk of the whole ``database``, and by table if the engine knows them."""
