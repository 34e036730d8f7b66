"""A transaction is a generator that yields ``(sql, parameters)`` and is sent the rows.

The engine runs it between its own BEGIN and COMMIT; an exception out of it undoes all that it did. The SQL keeps to
what SQLite and PostgreSQL have in common: ``$1`` placeholders, RETURNING, row values, partial indexes. Values are never
part of it. What the engines spell differently stands as a word of ``words``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T = TypeVar("T")


class Row(Protocol):
    """The columns of a row by position, or a slice of them."""

    def __getitem__(self, index: Any, /) -> Any: ...


Statement: TypeAlias = tuple[str, Sequence[object]]
Transaction: TypeAlias = Generator[Statement, Sequence[Row], T]
