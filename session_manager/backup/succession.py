"""Succession: finding the data that the last writer left, on this disk or in the bucket, and putting it in place.

A file on this disk has the term in its stamp. Within that term it is complete, and the bucket is at most as new. So the
file stays unless the bucket has data of a later term. Within a term the later state wins, shipped changes or a backup.
Data that is damaged or cannot be fetched completely is logged, and the next state is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from session_manager import __version__
from session_manager.backup.backups import Backups, quiet
from session_manager.backup.litestream import Line, all_lines, fetch, newest_change
from session_manager.backup.manifest import Manifest, new_name
from session_manager.backup.sqlite import SqliteSource, count_rows, schema
from session_manager.domain.errors import BackupDamaged
from session_manager.leadership.bucket_lease import Record
from session_manager.storage.files import replace_file
from session_manager.storage.streams import Meter, read_file

log = logging.getLogger(__name__)

ENDING = ".writer"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The writer that wrote a database file last, as in its lease; a small file beside it."""

    term: int
    holder: str


NO_WRITER = Stamp(0, "")


@dataclass(frozen=True, slots=True)
class Saved:
    """A state in the bucket. ``at`` is when its newest change was made or stored."""

    term: int
    at: datetime
    event: str
    what: str
    put_back: Callable[[], Awaitable[None]]


class Succession:
    """``tool`` is the Litestream program. Without it (None) no shipped changes can be fetched."""

    def __init__(self, backups: Backups, source: SqliteSource, tool: Path | None, endpoint: str | None) -> None:
        self._backups = backups
        self._source = source
        self._tool = tool
        self._endpoint = endpoint

    async def begin(self, ours: Record, before: Record) -> None:
        """Put the newest state in place and sign it with our term.

        Raises StorageError if the bucket cannot be read now, and BackupDamaged if none of the stored states is intact.
        """
        path = self._source.path
        here = read_stamp(path)
        if self._source.holds_data() and here == Stamp(before.term, before.holder):
            log.info("the database on this disk is the newest", extra={"event": "writer.continues", "term": here.term})
        else:
            await self._put_newest_in_place(here)
        await asyncio.to_thread(write_stamp, path, Stamp(ours.term, ours.holder))

    async def _put_newest_in_place(self, here: Stamp) -> None:
        saved = await self._saved()
        if self._source.holds_data():
            saved = [state for state in saved if state.term > here.term]
        damage: BackupDamaged | None = None
        for state in saved:
            try:
                await state.put_back()
            except BackupDamaged as error:
                extra = {"event": "writer.damaged", "what": state.what, "reason": error.reason}
                log.error("%s could not be used: %s", state.what, error.detail, extra=extra)
                damage = damage or error
            else:
                _report(state)
                return
        if damage is not None:
            raise damage

    async def _saved(self) -> list[Saved]:
        """Return the states in the bucket, newest first.

        Times of shipped changes are cut to seconds, so within a second shipped changes come before backups.
        """
        states = [*await self._shipped(), *await self._backed_up()]
        return sorted(states, key=lambda state: (state.term, state.at.replace(microsecond=0)), reverse=True)

    async def _backed_up(self) -> list[Saved]:
        manifests = await asyncio.to_thread(self._backups.catalog.all)
        return [
            Saved(each.term, each.taken_at, "backup.restored", f"backup {each.name}", partial(self._restore, each))
            for each in manifests
        ]

    async def _restore(self, manifest: Manifest) -> None:
        await asyncio.to_thread(self._backups.put_back, manifest)

    async def _shipped(self) -> list[Saved]:
        lines = await asyncio.to_thread(all_lines, self._backups.place)
        if not lines:
            return []
        if self._tool is None:
            message = "shipped changes in the bucket were ignored: litestream is not installed here to fetch them"
            log.warning(message, extra={"event": "writer.shipped_ignored"})
            return []
        states = []
        for line in lines:
            at = await newest_change(self._tool, line, self._endpoint)
            if at is not None:
                put_back = partial(self._fetch, self._tool, line, at)
                states.append(Saved(line.term, at, "shipping.restored", f"shipped changes {line.name}", put_back))
        return states

    async def _fetch(self, tool: Path, line: Line, at: datetime) -> None:
        with self._source.alone(), self._scratch() as path:
            await fetch(tool, line, self._endpoint, path)
            await asyncio.to_thread(self._check_and_replace, path, at)

    def _check_and_replace(self, path: Path, at: datetime) -> None:
        manifest = _describe(path, at)
        self._source.check(path, manifest, quiet)
        self._source.replace(path, manifest, quiet)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        path = self._source.scratch("shipped")
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _report(state: Saved) -> None:
    extra = {"event": state.event, "what": state.what, "term": state.term, "at": state.at.isoformat()}
    log.info("the database was restored from %s", state.what, extra=extra)


def _describe(path: Path, at: datetime) -> Manifest:
    """Return a manifest for a fetched file. Raises BackupDamaged if it is not a database."""
    meter = Meter()
    for _ in meter(read_file(path)):
        pass
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            version, rows = schema(database)[0], count_rows(database)
    except sqlite3.DatabaseError as error:
        raise BackupDamaged("The shipped changes are not an intact database", reason=f"SQLite: {error}") from error
    return Manifest(
        name=new_name(at.astimezone(UTC)),
        taken_at=at,
        engine="sqlite",
        schema_version=version,
        rows=rows,
        size=meter.size,
        sha256=meter.sha256,
        stored_size=meter.size,
        stored_sha256=meter.sha256,
        program=__version__,
        duration=0,
    )


def read_stamp(database: Path) -> Stamp:
    """Return the stamp, or NO_WRITER if there is none or it cannot be read."""
    try:
        found = json.loads(_path(database).read_text())
        return Stamp(int(found["term"]), str(found["holder"]))
    except (OSError, ValueError, KeyError, TypeError):
        return NO_WRITER


def write_stamp(database: Path, stamp: Stamp) -> None:
    """Store the stamp on disk. Call this before anything is written to the database."""
    replace_file(_path(database), [json.dumps(asdict(stamp)).encode()])


def _path(database: Path) -> Path:
    return database.with_name(database.name + ENDING)
