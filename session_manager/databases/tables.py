"""What the two engines say of a table, in the same words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a column holds. ADK's tables hold times and JSON in types of the engine's own."""

    TEXT = "text"
    INT = "int"
    REAL = "real"
    TIME = "time"  # a timestamp without a zone, UTC
    JSON = "json"  # parsed and kept as a tree


@dataclass(frozen=True, slots=True)
class Column:
    """``limit``: characters at most, or None."""

    name: str
    kind: Kind
    required: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows of ``table`` that this table's ``columns`` lead to, by its ``parents``."""

    columns: tuple[str, ...]
    table: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """``key``: the primary key. ``order``: what rows are read by; for SQLite the order in which they were made."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    order: tuple[str, ...]
    references: tuple[Reference, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def select(self, where: str = "") -> str:
        """Its columns in their order, then those of ``order``."""
        wanted = ", ".join(quoted((*self.names, *self.order)))
        return f"SELECT {wanted} FROM {quote(self.name)}{where}"  # noqa: S608  names of the schema, quoted


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quoted(names: Iterable[str]) -> list[str]:
    return [quote(name) for name in names]
