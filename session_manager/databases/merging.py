"""What another database has, into one that is in use.

The unit is a conversation with all that belongs to it (see ``links``): it comes whole, in one transaction, or not at
all.  What both have is compared: the same is left alone, and what differs is a conflict that a person has to look at.
Nothing in the target is ever changed, so a merge may be run again.  The source is opened for reading only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from session_manager.databases.code_schema import check_version, our_tables
from session_manager.databases.content import Content, Mapping, key_of
from session_manager.databases.engine import Engine, Row, RowRefused
from session_manager.databases.links import Links
from session_manager.databases.opening import opened
from session_manager.databases.states import fill_states, says_something
from session_manager.databases.tables import Table, quote

Group = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row of ``table`` that was left out with all that belongs to it, by its key, and why."""

    table: str
    key: tuple[Any, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.table} ({', '.join(map(str, self.key))}): {self.reason}"


@dataclass(slots=True)
class Merged:
    """``rows`` that came (or would come) by table; ``same``: units that both had; ``deleted``: ended in the source."""

    rows: Counter[str] = field(default_factory=Counter)
    same: int = 0
    deleted: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


class Merger:
    """``source`` opened for reading, ``target`` for writing."""

    def __init__(self, source: Engine, target: Engine) -> None:
        self._source = source
        self._target = target
        self._report = Merged()

    async def merge(self, *, dry_run: bool = False) -> Merged:
        """Add what is missing. StartupFailure when one of them is not at this version."""
        await check_version(self._source)
        await check_version(self._target)
        here, there = Links.of(await our_tables(self._source)), Links.of(await our_tables(self._target))
        async with self._source.reading():
            for table in here.roots():
                counts = says_something(table)
                async for row in self._source.rows(table):
                    if counts(row) and not await self._has_parent(here, table, row):
                        await self._merge_unit(here, there, table, row, dry_run=dry_run)
        if not dry_run:
            async with self._target.writing():
                await fill_states(self._target)
        return self._report

    async def _has_parent(self, links: Links, table: Table, row: Row) -> bool:
        """Then it came, or did not, with that one."""
        parent = links.parent(table)
        if parent is None:
            return False
        values = [row[table.names.index(name)] for name in parent.columns]
        return bool(await _rows_where(self._source, links.tables[parent.table], parent.parents, values))

    async def _merge_unit(self, here: Links, there: Links, table: Table, row: Row, *, dry_run: bool) -> None:
        if "deleted_at" in table.names and row[table.names.index("deleted_at")] is not None:
            self._report.deleted += 1
            return
        key = key_of(table, row)
        group = await _collect(self._source, here, table, row)
        found = await _rows_where(self._target, there.tables[table.name], table.key, key)
        if not found:
            await self._add(
                here, there, group, Conflict(table.name, key, "something of it is in the target already"), dry_run
            )
        elif _same(here, there, group, await _collect(self._target, there, there.tables[table.name], found[0])):
            self._report.same += 1
        else:
            self._report.conflicts.append(Conflict(table.name, key, "both have it, and they differ"))

    async def _add(self, here: Links, there: Links, group: Group, otherwise: Conflict, dry_run: bool) -> None:
        try:
            async with self._target.writing(keep=not dry_run):
                for name, rows in group.items():
                    await self._insert(Mapping(here.tables[name], there.tables[name]), rows)
        except RowRefused as refused:
            reason = f"{otherwise.reason} ({refused})"
            self._report.conflicts.append(Conflict(otherwise.table, otherwise.key, reason))
        else:
            self._report.rows.update({name: len(rows) for name, rows in group.items()})

    async def _insert(self, mapping: Mapping, rows: Sequence[Row]) -> None:
        convert, misfit = mapping.converter(), mapping.misfit()
        names = [here.name for here, _ in mapping.pairs]
        converted = [convert(row)[: len(names)] for row in rows]
        for row in converted:
            reason = misfit(row)
            if reason:
                raise RowRefused(reason)
        await self._target.insert(mapping.target, names, converted)


async def _rows_where(engine: Engine, table: Table, columns: Sequence[str], values: Sequence[Any]) -> Sequence[Row]:
    if not columns:
        return []
    terms = " AND ".join(f"{quote(name)} = ${number}" for number, name in enumerate(columns, 1))
    order = ", ".join(quote(name) for name in table.order)
    return await engine.fetch(table.select(f" WHERE {terms} ORDER BY {order}"), *values)


async def _collect(engine: Engine, links: Links, table: Table, row: Row) -> Group:
    """The row and all that belongs to it, by table, each after what it refers to."""
    group: Group = {table.name: [row]}
    for child, reference in links.children(table):
        values = [row[table.names.index(name)] for name in reference.parents]
        for each in await _rows_where(engine, child, reference.columns, values):
            for name, rows in (await _collect(engine, links, child, each)).items():
                group.setdefault(name, []).extend(rows)
    return group


def _same(here: Links, there: Links, group: Group, other: Group) -> bool:
    """Whether both sides have the same rows, whatever their engines write them like."""
    for name in {*group, *other}:
        mapping = Mapping(here.tables[name], there.tables[name])
        contents = (Content(), Content())
        for content, rows, side in zip(contents, (group, other), (mapping.source, mapping.target), strict=True):
            fingerprint = mapping.fingerprint(side)
            for row in rows.get(name, ()):
                content.add(fingerprint(row))
        if contents[0] != contents[1]:
            return False
    return True


class DatabaseMerger:
    """For programs without an event loop. ``target``: the path of a SQLite file, or a URI as in SESSION_DB_URI."""

    def __init__(self, target: str | Path, plain_hosts: str = "") -> None:
        self._target = target
        self._plain_hosts = plain_hosts

    def merge_databases(self, *sources: str | Path, dry_run: bool = False) -> Merged:
        """Each source in turn, into the target. The report is of all of them; no source is changed."""
        return asyncio.run(self._merge(sources, dry_run=dry_run))

    async def _merge(self, sources: Sequence[str | Path], *, dry_run: bool) -> Merged:
        whole = Merged()
        for source in sources:
            async with (
                opened(source, read_only=True, plain_hosts=self._plain_hosts) as old,
                opened(self._target, read_only=False, if_missing="refuse", plain_hosts=self._plain_hosts) as new,
            ):
                report = await Merger(old, new).merge(dry_run=dry_run)
            whole.rows += report.rows
            whole.same += report.same
            whole.deleted += report.deleted
            whole.conflicts += report.conflicts
        return whole
