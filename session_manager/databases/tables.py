"""The description of a table, the same for both engines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


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

    def select(self, where: str = "") -> str:
        """Return a SELECT of its columns in their order, then those of ``order``."""
        wanted = ", ".join(quoted((*self.names, *self.order)))
        return f"SELECT {wanted} FROM {quote(self.name)}{where}"  # noqa: S608  names of the schema, quoted


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str]) -> list[str]:
    return [quote(name) for name in names]
