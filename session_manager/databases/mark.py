"""The progress of a copy, stored in its target, so that it survives a kill -9 between two batches.

While it exists the target has a schema version that no program supports, so that no front door serves half of the data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from session_manager.databases.code_schema import VERSIONS
from session_manager.databases.database import Database
from session_manager.domain.errors import Conflict, StartupFailure
from session_manager.store.schema.upgrade import HALF_COPIED

TABLE = "session_manager_copy"
_SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Position:
    """The progress in one table: the last copied row, the number of copied rows, and whether the table is complete."""

    after: tuple[Any, ...] | None = None
    rows: int = 0
    done: bool = False


class Mark:
    """The progress of the copy into ``target``. ``source`` is an address without secrets."""

    def __init__(self, target: Database, source: str) -> None:
        self._target = target
        self._source = source

    async def found(self) -> bool:
        """Return True for an unfinished copy of this source. Raises StartupFailure for one of another source."""
        if TABLE not in await self._target.tables():
            return False
        rows = await self._target.fetch(f"SELECT value FROM {TABLE} WHERE name = $1", _SOURCE)  # noqa: S608
        if not rows or rows[0][0] != self._source:
            raise StartupFailure(f"{self._target.shown} is the target of an unfinished copy from elsewhere")
        return True

    async def make(self) -> None:
        await self._target.fetch(f"CREATE TABLE {TABLE} (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
        await self._target.fetch(f"INSERT INTO {TABLE} VALUES ($1, $2)", _SOURCE, self._source)  # noqa: S608
        await self._target.fetch(f"INSERT INTO {VERSIONS} VALUES ($1, $1, 0)", HALF_COPIED)  # noqa: S608

    async def remove(self) -> None:
        await self._target.fetch(f"DELETE FROM {VERSIONS} WHERE version = $1", HALF_COPIED)  # noqa: S608
        await self._target.fetch(f"DROP TABLE {TABLE}")

    async def position(self, table: str) -> Position | None:
        """Return the position, or None if the table is not begun."""
        rows = await self._target.fetch(f"SELECT value FROM {TABLE} WHERE name = $1", _name(table))  # noqa: S608
        if not rows:
            return None
        after, count, done = json.loads(rows[0][0])
        return Position(None if after is None else tuple(after), count, done)

    async def begin(self, table: str) -> Position:
        value = _text(Position())
        await self._target.fetch(f"INSERT INTO {TABLE} VALUES ($1, $2)", _name(table), value)  # noqa: S608
        return Position()

    async def move(self, table: str, old: Position, new: Position) -> None:
        """Store the position in the transaction that adds the rows. Raises Conflict if another copy has moved it."""
        moved = await self._target.fetch(
            f"UPDATE {TABLE} SET value = $1 WHERE name = $2 AND value = $3 RETURNING name",  # noqa: S608
            _text(new),
            _name(table),
            _text(old),
        )
        if not moved:
            raise Conflict("another copy into the same database is running")

    async def restart(self) -> None:
        """Make the next run copy everything again."""
        await self._target.fetch(f"DELETE FROM {TABLE} WHERE name <> $1", _SOURCE)  # noqa: S608


def _name(table: str) -> str:
    return f"table {table}"


def _text(position: Position) -> str:
    return json.dumps([position.after, position.rows, position.done])
