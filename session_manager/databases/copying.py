"""Copies a whole database into an empty one of the same or the other engine.

Each batch is one transaction that also stores the progress, so that a copy that was killed continues there. At the end
both sides are read again, and row counts and content of all tables must agree. This also detects writes to the source
during the copy. The source is opened for reading only.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from session_manager.databases.code_schema import (
    VERSIONS,
    check_version,
    content_check,
    count,
    fill_states,
    filled,
    our_tables,
    table_names,
)
from session_manager.databases.content import Content, TablePair
from session_manager.databases.database import Database, Row, RowRefused, Table, quote
from session_manager.domain.errors import Conflict, StartupFailure
from session_manager.domain.times import Micros
from session_manager.store.schema.upgrade import HALF_COPIED, all_migrations, upgrade

_PROGRESS = "session_manager_copy"
_SOURCE = "source"

BATCH_ROWS = 1000
BATCH_LETTERS = 4_000_000  # of text in a batch: messages and replies may be megabytes long
_SHOWN_MISFITS = 20

Progress = Callable[[str, int, int], None]
"""Called with a table, the number of its copied rows, and the number of all its rows."""


class Position(NamedTuple):
    """The progress in one table: the last copied row, the number of copied rows, and whether the table is complete."""

    after: tuple[Any, ...] | None = None
    rows: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """The progress of a copy, stored in its ``target``. ``source`` is an address without secrets.

    It survives a kill -9 between two batches. While it exists the target has a schema version that no program supports,
    so that no front door serves half of the data.
    """

    target: Database
    source: str

    async def found(self) -> bool:
        """Return True for an unfinished copy of this source. Raises StartupFailure for one of another source."""
        if _PROGRESS not in await self.target.tables():
            return False
        rows = await self.target.fetch(f"SELECT value FROM {_PROGRESS} WHERE name = $1", _SOURCE)  # noqa: S608
        if not rows or rows[0][0] != self.source:
            raise StartupFailure(f"{self.target.shown} is the target of an unfinished copy from elsewhere")
        return True

    async def make(self) -> None:
        await self.target.fetch(f"CREATE TABLE {_PROGRESS} (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
        await self.target.fetch(f"INSERT INTO {_PROGRESS} VALUES ($1, $2)", _SOURCE, self.source)  # noqa: S608
        await self.target.fetch(f"INSERT INTO {VERSIONS} VALUES ($1, $1, 0)", HALF_COPIED)  # noqa: S608

    async def remove(self) -> None:
        await self.target.fetch(f"DELETE FROM {VERSIONS} WHERE version = $1", HALF_COPIED)  # noqa: S608
        await self.target.fetch(f"DROP TABLE {_PROGRESS}")

    async def position(self, table: str) -> Position | None:
        """Return the position, or None if the table is not begun."""
        rows = await self.target.fetch(f"SELECT value FROM {_PROGRESS} WHERE name = $1", _mark_of(table))  # noqa: S608
        if not rows:
            return None
        after, count, done = json.loads(rows[0][0])
        return Position(None if after is None else tuple(after), count, done)

    async def begin(self, table: str) -> Position:
        value = json.dumps(Position())
        await self.target.fetch(f"INSERT INTO {_PROGRESS} VALUES ($1, $2)", _mark_of(table), value)  # noqa: S608
        return Position()

    async def move(self, table: str, old: Position, new: Position) -> None:
        """Store the position in the transaction that adds the rows. Raises Conflict if another copy has moved it."""
        moved = await self.target.fetch(
            f"UPDATE {_PROGRESS} SET value = $1 WHERE name = $2 AND value = $3 RETURNING name",  # noqa: S608
            json.dumps(new),
            _mark_of(table),
            json.dumps(old),
        )
        if not moved:
            raise Conflict("another copy into the same database is running")

    async def restart(self) -> None:
        """Make the next run copy everything again."""
        await self.target.fetch(f"DELETE FROM {_PROGRESS} WHERE name <> $1", _SOURCE)  # noqa: S608


def _mark_of(table: str) -> str:
    return f"table {table}"


@dataclass(frozen=True, slots=True)
class Copied:
    """The result: ``rows`` and ``hashes`` by table. ``misfits`` of a dry run are rows that the target cannot store."""

    rows: dict[str, int]
    hashes: dict[str, str] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)
    resumed: bool = False


@dataclass(eq=False)
class Copier:
    """``source`` must be opened for reading, ``target`` for writing."""

    source: Database
    target: Database
    progress: Progress = lambda *_: None

    def __post_init__(self) -> None:
        self._mark = Mark(self.target, self.source.shown)

    async def look(self) -> Copied:
        """Return the result of a copy without writing anything. Raises StartupFailure if a copy would not begin."""
        await check_version(self.source)
        async with self.target.writing(keep=False):
            resumed = await self._begin()
            pairs = await self._pairs()
        rows: dict[str, int] = {}
        misfits: list[str] = []
        async with self.source.reading():
            for pair in pairs:
                rows[pair.source.name] = await self._look_at(pair, misfits)
        return Copied(rows, misfits=misfits, resumed=resumed)

    async def copy(self) -> Copied:
        """Copy, or continue an unfinished copy, and compare both sides.

        Raises StartupFailure if the copy cannot begin or a row does not fit, and Conflict if the source changed
        meanwhile; then the next run copies everything again.
        """
        await check_version(self.source)
        async with self.target.writing():
            resumed = await self._begin()
        pairs = await self._pairs()
        async with self.source.reading():
            for pair in pairs:
                await self._copy_table(pair)
        async with self.target.writing():
            await fill_states(self.target)
            await self.target.reset_counters()
        contents = await self._compare(pairs)
        async with self.target.writing():
            await self._mark.remove()
        return Copied(
            {name: content.rows for name, content in contents.items()},
            {name: content.hash for name, content in contents.items()},
            resumed=resumed,
        )

    async def _begin(self) -> bool:
        """Prepare the target. Return True if there is an unfinished copy to continue."""
        if self.source.shown == self.target.shown:
            raise StartupFailure("source and target are the same database")
        if await self._mark.found():
            return True
        there = await filled(self.target)
        if there:
            raise StartupFailure(
                f"{self.target.shown} has data already, in {', '.join(there)}; copy into an empty database, or use "
                "'session-manager db merge'"
            )
        await self.target.run(upgrade(Micros(time.time_ns() // 1000), self.target.dialect, all_migrations()))
        await self._mark.make()
        return False

    async def _pairs(self) -> list[TablePair]:
        there = await self.target.tables()
        pairs = [TablePair(table, there[table.name]) for table in await our_tables(self.source)]
        lacking = [f"{pair.source.name}.{name}" for pair in pairs for name in pair.missing]
        if lacking or len(pairs) != len(table_names()):
            raise StartupFailure(
                f"the two databases do not have the same tables; missing: {', '.join(lacking) or 'whole tables'}"
            )
        return pairs

    async def _look_at(self, pair: TablePair, misfits: list[str]) -> int:
        """Return the number of rows with content, and add the first rows that do not fit to ``misfits``."""
        has_content, fit = content_check(pair.source), pair.fitter()
        rows = 0
        async for row in self.source.rows(pair.source):
            rows += has_content(row)
            if len(misfits) < _SHOWN_MISFITS:
                try:
                    fit(row)
                except RowRefused as refused:
                    misfits.append(str(refused))
        return rows

    # Rows

    async def _copy_table(self, pair: TablePair) -> None:
        name = pair.source.name
        position = await self._mark.position(name)
        total = await count(self.source, pair.source)
        if position is None:
            position = await self._empty(pair.target)
        elif position.done:
            return
        self.progress(name, position.rows, total)
        async for batch in _batches(self.source.rows(pair.source, position.after)):
            position = await self._add(pair, position, batch)
            self.progress(name, position.rows, total)
        async with self.target.writing():
            await self._mark.move(name, position, Position(position.after, position.rows, done=True))

    async def _empty(self, table: Table) -> Position:
        """Remove rows that the schema, its triggers or an earlier run have inserted."""
        async with self.target.writing():
            await self.target.fetch(f"DELETE FROM {quote(table.name)}")  # noqa: S608
            return await self._mark.begin(table.name)

    async def _add(self, pair: TablePair, position: Position, batch: Sequence[Row]) -> Position:
        table = pair.source
        new = Position(tuple(batch[-1][len(table.columns) :]), position.rows + len(batch))
        try:
            rows = [*map(pair.fitter(), batch)]
            async with self.target.writing():
                await self.target.insert(pair.target, pair.names, rows)
                await self._mark.move(table.name, position, new)
        except RowRefused as refused:
            raise StartupFailure(f"rows of {table.name} cannot be copied: {refused}") from None
        return new

    # Afterwards

    async def _compare(self, pairs: Sequence[TablePair]) -> dict[str, Content]:
        contents: dict[str, Content] = {}
        differing = []
        async with self.source.reading(), self.target.reading():
            for pair in pairs:
                here = await self._content(self.source, pair, pair.source)
                there = await self._content(self.target, pair, pair.target)
                contents[pair.source.name] = here
                if here != there:
                    differing.append(pair.source.name)
        if differing:
            async with self.target.writing():
                for pair in reversed(pairs):
                    await self.target.fetch(f"DELETE FROM {quote(pair.target.name)}")  # noqa: S608
                await self._mark.restart()
            raise Conflict(
                f"the source changed while it was copied ({', '.join(differing)}); stop the programs that write to it, "
                "and run the same command again, which copies everything once more"
            )
        return contents

    async def _content(self, database: Database, pair: TablePair, table: Table) -> Content:
        content = Content()
        has_content, fingerprint = content_check(table), pair.fingerprint(table)
        async for row in database.rows(table):
            if has_content(row):
                content.add(fingerprint(row))
        return content


async def _batches(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    batch: list[Row] = []
    letters = 0
    async for row in rows:
        batch.append(row)
        letters += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) >= BATCH_ROWS or letters >= BATCH_LETTERS:
            yield batch
            batch, letters = [], 0
    if batch:
        yield batch
