"""Adds the conversations of another database to one that is in use.

A conversation comes with all its rows (see ``Links``) in one transaction, or not at all. If both databases have it, the
rows are compared: a difference is a conflict for a person to resolve. Rows of the target are never changed, so a merge
may be repeated. The source is opened for reading only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from session_manager.databases.code_schema import check_version, content_check, fill_states, our_tables
from session_manager.databases.content import Content, TablePair, key_of
from session_manager.databases.database import Database, Reference, Row, RowRefused, Table, quote
from session_manager.databases.opening import opened

# Most links are foreign keys. The rows of these may also exist alone: ADK's row of a session has the same key as ours,
# and artifacts and memories name their session.
_BESIDE_FOREIGN_KEYS: Mapping[str, Reference] = {
    "sessions": Reference(("app_name", "user_id", "id"), "session", ("app", "user_id", "adk_id")),
    "artifact": Reference(("session",), "session", ("uuid",)),
    "memory": Reference(("session",), "session", ("uuid",)),
}
# These belong to one database: its identity, and its keys to reconcile.
_NOT_MERGED = frozenset({"installation", "adk_note"})

Group = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Links:
    """The links between tables, which are in an order in which each comes after the tables that it refers to.

    A conversation is a row with all rows that refer to it; it is merged as a whole.
    """

    tables: Mapping[str, Table]

    @classmethod
    def of(cls, tables: list[Table]) -> Links:
        return cls({table.name: table for table in tables if table.name not in _NOT_MERGED})

    def parent(self, table: Table) -> Reference | None:
        return table.references[0] if table.references else _BESIDE_FOREIGN_KEYS.get(table.name)

    def children(self, table: Table) -> list[tuple[Table, Reference]]:
        found = []
        for other in self.tables.values():
            parent = self.parent(other)
            if parent is not None and parent.table == table.name:
                found.append((other, parent))
        return found

    def roots(self) -> list[Table]:
        """Return tables whose rows may exist alone: those without a foreign key."""
        return [table for table in self.tables.values() if not table.references]


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """A row of ``table`` that was left out with everything that belongs to it, by its key, and the reason."""

    table: str
    key: tuple[Any, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.table} ({', '.join(map(str, self.key))}): {self.reason}"


@dataclass(slots=True)
class Merged:
    """The result: ``rows`` added (or to add) by table, conversations that are the ``same`` in both, or ``deleted``."""

    rows: Counter[str] = field(default_factory=Counter)
    same: int = 0
    deleted: int = 0
    conflicts: list[MergeConflict] = field(default_factory=list)


@dataclass(eq=False)
class Merger:
    """``source`` must be opened for reading, ``target`` for writing."""

    source: Database
    target: Database
    report: Merged = field(default_factory=Merged)

    async def merge(self, *, dry_run: bool = False) -> Merged:
        """Add the missing conversations. Raises StartupFailure unless both databases have this version."""
        await check_version(self.source)
        await check_version(self.target)
        here, there = Links.of(await our_tables(self.source)), Links.of(await our_tables(self.target))
        async with self.source.reading():
            for table in here.roots():
                has_content = content_check(table)
                async for row in self.source.rows(table):
                    if has_content(row) and not await self._has_parent(here, table, row):
                        await self._merge_unit(here, there, table, row, dry_run=dry_run)
        if not dry_run:
            async with self.target.writing():
                await fill_states(self.target)
        return self.report

    async def _has_parent(self, links: Links, table: Table, row: Row) -> bool:
        """Return True if the row belongs to another row, and is merged with it."""
        parent = links.parent(table)
        if parent is None:
            return False
        values = [row[table.names.index(name)] for name in parent.columns]
        return bool(await _rows_where(self.source, links.tables[parent.table], parent.parents, values))

    async def _merge_unit(self, here: Links, there: Links, table: Table, row: Row, *, dry_run: bool) -> None:
        if "deleted_at" in table.names and row[table.names.index("deleted_at")] is not None:
            self.report.deleted += 1
            return
        key = key_of(table, row)
        group = await _collect(self.source, here, table, row)
        found = await _rows_where(self.target, there.tables[table.name], table.key, key)
        if not found:
            await self._add(here, there, group, (table.name, key), dry_run=dry_run)
        elif _same(here, there, group, await _collect(self.target, there, there.tables[table.name], found[0])):
            self.report.same += 1
        else:
            self.report.conflicts.append(MergeConflict(table.name, key, "both have it, and they differ"))

    async def _add(
        self, here: Links, there: Links, group: Group, root: tuple[str, tuple[Any, ...]], *, dry_run: bool
    ) -> None:
        try:
            async with self.target.writing(keep=not dry_run):
                for name, rows in group.items():
                    pair = TablePair(here.tables[name], there.tables[name])
                    await self.target.insert(pair.target, pair.names, [*map(pair.fitter(), rows)])
        except RowRefused as refused:
            reason = f"part of it is in the target already, or does not fit ({refused})"
            self.report.conflicts.append(MergeConflict(*root, reason))
        else:
            self.report.rows.update({name: len(rows) for name, rows in group.items()})


async def _rows_where(database: Database, table: Table, columns: Sequence[str], values: Sequence[Any]) -> Sequence[Row]:
    if not columns:
        return []
    terms = " AND ".join(f"{quote(name)} = ${number}" for number, name in enumerate(columns, 1))
    order = ", ".join(quote(name) for name in table.order)
    return await database.fetch(table.select(f" WHERE {terms} ORDER BY {order}"), *values)


async def _collect(database: Database, links: Links, table: Table, row: Row) -> Group:
    """Return the row and everything that belongs to it by table, each row after the rows that it refers to."""
    group: Group = {table.name: [row]}
    for child, reference in links.children(table):
        values = [row[table.names.index(name)] for name in reference.parents]
        for each in await _rows_where(database, child, reference.columns, values):
            for name, rows in (await _collect(database, links, child, each)).items():
                group.setdefault(name, []).extend(rows)
    return group


def _same(here: Links, there: Links, group: Group, other: Group) -> bool:
    """Return True if both sides have the same rows, however their engines store them."""
    for name in {*group, *other}:
        pair = TablePair(here.tables[name], there.tables[name])
        contents = (Content(), Content())
        for content, rows, side in zip(contents, (group, other), (pair.source, pair.target), strict=True):
            fingerprint = pair.fingerprint(side)
            for row in rows.get(name, ()):
                content.add(fingerprint(row))
        if contents[0] != contents[1]:
            return False
    return True


@dataclass(eq=False)
class DatabaseMerger:
    """Merges without an event loop. ``target`` is the path of a SQLite file, or a URI as in SESSION_DB_URI."""

    target: str | Path = field(repr=False)
    plain_hosts: str = ""

    def merge_databases(self, *sources: str | Path, dry_run: bool = False) -> Merged:
        """Merge each source into the target, and return one report of all. No source is changed."""
        return asyncio.run(self._merge(sources, dry_run=dry_run))

    async def _merge(self, sources: Sequence[str | Path], *, dry_run: bool) -> Merged:
        whole = Merged()
        for source in sources:
            async with (
                opened(source, read_only=True, plain_hosts=self.plain_hosts) as old,
                opened(self.target, read_only=False, if_missing="refuse", plain_hosts=self.plain_hosts) as new,
            ):
                report = await Merger(old, new).merge(dry_run=dry_run)
            whole.rows += report.rows
            whole.same += report.same
            whole.deleted += report.deleted
            whole.conflicts += report.conflicts
        return whole
