"""How far a copy has come, kept in its target: what survives a kill -9 between two batches.

While it is there the target claims a schema version that no program knows, so that no front door serves half of the
data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from session_manager.databases.code_schema import VERSIONS
from session_manager.databases.engine import Engine
from session_manager.domain.errors import Conflict, StartupFailure
from session_manager.store.schema.upgrade import HALF_COPIED

TABLE = "session_manager_copy"
_SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which row of a table a copy goes on, after how many; ``done``: no more are to come."""

    after: tuple[Any, ...] | None = None
    rows: int = 0
    done: bool = False


class Mark:
    """Of the one copy that fills ``target`` from ``source``, an address without secrets."""

    def __init__(self, target: Engine, source: str) -> None:
        self._target = target
        self._source = source

    async def found(self) -> bool:
        """Whether an unfinished copy of the same source is there. StartupFailure for one of another source."""
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
        """None: not begun."""
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
        """In the transaction that adds the rows. Conflict when another copy has moved it meanwhile."""
        moved = await self._target.fetch(
            f"UPDATE {TABLE} SET value = $1 WHERE name = $2 AND value = $3 RETURNING name",  # noqa: S608
            _text(new),
            _name(table),
            _text(old),
        )
        if not moved:
            raise Conflict("another copy into the same database is running")

    async def restart(self) -> None:
        """The next run copies everything again."""
        await self._target.fetch(f"DELETE FROM {TABLE} WHERE name <> $1", _SOURCE)  # noqa: S608


def _name(table: str) -> str:
    return f"table {table}"


def _text(position: Position) -> str:
    return json.dumps([position.after, position.rows, position.done])
