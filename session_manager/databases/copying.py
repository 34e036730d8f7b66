"""A whole database into an empty one of the same or the other engine.

Batch after batch, each in one transaction together with how far it came, so that a copy that was killed goes on where
it was.  At the end both sides are read again: row counts and content of every table have to agree, and what was
written to the source meanwhile shows there.  The source is opened for reading only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from session_manager.databases.code_schema import check_version, filled, make_schema, our_tables, table_names
from session_manager.databases.content import Content, Mapping, key_of
from session_manager.databases.engine import Engine, Row, RowRefused
from session_manager.databases.mark import Mark, Position
from session_manager.databases.states import fill_states, says_something
from session_manager.databases.tables import Table, quote
from session_manager.domain.errors import Conflict, StartupFailure

BATCH_ROWS = 1000
BATCH_LETTERS = 4_000_000  # of text in a batch: messages and replies may have megabytes
_SHOWN_MISFITS = 20

Progress = Callable[[str, int, int], None]
"""Told the table, and of how many rows how many are done."""


@dataclass(frozen=True, slots=True)
class Copied:
    """``rows`` and ``hashes`` by table. ``misfits``: rows that the target cannot hold, of a dry run."""

    rows: dict[str, int]
    hashes: dict[str, str] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)
    resumed: bool = False


class Copier:
    """``source`` opened for reading, ``target`` for writing."""

    def __init__(self, source: Engine, target: Engine, progress: Progress = lambda *_: None) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._mark = Mark(target, source.shown)

    async def look(self) -> Copied:
        """What a copy would do. StartupFailure when it would not begin. Nothing is written."""
        await check_version(self._source)
        async with self._target.writing(keep=False):
            resumed = await self._begin()
            mappings = await self._mappings()
        rows: dict[str, int] = {}
        misfits: list[str] = []
        async with self._source.reading():
            for mapping in mappings:
                rows[mapping.source.name] = await self._look_at(mapping, misfits)
        return Copied(rows, misfits=misfits, resumed=resumed)

    async def copy(self) -> Copied:
        """Copy, or go on with a copy, and compare.

        StartupFailure: it cannot begin, or a row does not fit. Conflict: the source changed while it was copied; the
        next run copies everything again.
        """
        await check_version(self._source)
        async with self._target.writing():
            resumed = await self._begin()
        mappings = await self._mappings()
        async with self._source.reading():
            for mapping in mappings:
                await self._copy_table(mapping)
        async with self._target.writing():
            await fill_states(self._target)
            await self._target.settle()
        contents = await self._compare(mappings)
        async with self._target.writing():
            await self._mark.remove()
        return Copied(
            {name: content.rows for name, content in contents.items()},
            {name: content.hash for name, content in contents.items()},
            resumed=resumed,
        )

    async def _begin(self) -> bool:
        """Whether an earlier run has begun."""
        if self._source.shown == self._target.shown:
            raise StartupFailure("source and target are the same database")
        if await self._mark.found():
            return True
        there = await filled(self._target, await our_tables(self._target))
        if there:
            raise StartupFailure(
                f"{self._target.shown} has data already, in {', '.join(there)}: copy into an empty database, or use "
                "'session-manager db merge'"
            )
        await make_schema(self._target)
        await self._mark.make()
        return False

    async def _mappings(self) -> list[Mapping]:
        there = await self._target.tables()
        mappings = [Mapping(table, there[table.name]) for table in await our_tables(self._source)]
        lacking = [f"{mapping.source.name}.{name}" for mapping in mappings for name in mapping.missing]
        if lacking or len(mappings) != len(table_names()):
            raise StartupFailure(f"the two databases do not have the same tables: {', '.join(lacking) or 'some lack'}")
        return mappings

    async def _count(self, table: Table) -> int:
        rows = await self._source.fetch(f"SELECT count(*) FROM {quote(table.name)}")  # noqa: S608
        return int(rows[0][0])

    async def _look_at(self, mapping: Mapping, misfits: list[str]) -> int:
        """How many rows say something; the first of those that do not fit are added to ``misfits``."""
        table = mapping.source
        counts, convert, misfit = says_something(table), mapping.converter(), mapping.misfit()
        rows = 0
        async for row in self._source.rows(table):
            rows += counts(row)
            reason = misfit(convert(row)) if len(misfits) < _SHOWN_MISFITS else None
            if reason:
                misfits.append(_told(table, row, reason))
        return rows

    # Rows

    async def _copy_table(self, mapping: Mapping) -> None:
        name = mapping.source.name
        position = await self._mark.position(name)
        total = await self._count(mapping.source)
        if position is None:
            position = await self._empty(mapping.target)
        elif position.done:
            return
        self._progress(name, position.rows, total)
        async for batch in _batches(self._source.rows(mapping.source, position.after)):
            position = await self._add(mapping, position, batch)
            self._progress(name, position.rows, total)
        async with self._target.writing():
            await self._mark.move(name, position, Position(position.after, position.rows, done=True))

    async def _empty(self, table: Table) -> Position:
        """Without what the schema and its triggers have put there themselves, or a run that has to be done again."""
        async with self._target.writing():
            await self._target.fetch(f"DELETE FROM {quote(table.name)}")  # noqa: S608
            return await self._mark.begin(table.name)

    async def _add(self, mapping: Mapping, position: Position, batch: Sequence[Row]) -> Position:
        table = mapping.source
        convert, misfit = mapping.converter(), mapping.misfit()
        names = [here.name for here, _ in mapping.pairs]
        converted = [convert(row)[: len(names)] for row in batch]
        for row in converted:
            reason = misfit(row)
            if reason:
                raise StartupFailure(f"A row cannot be copied. {_told(table, row, reason)}")
        new = Position(tuple(batch[-1][len(table.columns) :]), position.rows + len(batch))
        async with self._target.writing():
            try:
                await self._target.insert(mapping.target, names, converted)
            except RowRefused as refused:
                raise StartupFailure(f"Rows of {table.name} cannot be copied: {refused}") from None
            await self._mark.move(table.name, position, new)
        return new

    # Afterwards

    async def _compare(self, mappings: Sequence[Mapping]) -> dict[str, Content]:
        contents: dict[str, Content] = {}
        differing = []
        async with self._source.reading(), self._target.reading():
            for mapping in mappings:
                here = await self._content(self._source, mapping, mapping.source)
                there = await self._content(self._target, mapping, mapping.target)
                contents[mapping.source.name] = here
                if here != there:
                    differing.append(mapping.source.name)
        if differing:
            async with self._target.writing():
                for mapping in reversed(mappings):
                    await self._target.fetch(f"DELETE FROM {quote(mapping.target.name)}")  # noqa: S608
                await self._mark.restart()
            raise Conflict(
                f"The source changed while it was copied ({', '.join(differing)}). Stop what writes to it, and run the "
                "same command again: it copies everything once more"
            )
        return contents

    async def _content(self, engine: Engine, mapping: Mapping, table: Table) -> Content:
        content = Content()
        counts, fingerprint = says_something(table), mapping.fingerprint(table)
        async for row in engine.rows(table):
            if counts(row):
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


def _told(table: Table, row: Row, reason: str) -> str:
    """Which row, by its key, and why not."""
    key = ", ".join(str(value)[:80] for value in key_of(table, row))
    return f"{table.name} ({key}): {reason}"
