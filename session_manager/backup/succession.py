"""Succession: finding the data that the last writer left, on this disk or in the bucket, and putting it in place.

A file on this disk has the term in its stamp. Within that term it is complete, and the bucket is at most as new. So the
file stays unless the bucket has data of a later term. Within a term the later state wins, shipped changes or a backup.
Data that is damaged or cannot be fetched completely is logged, and the next state is tried.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from session_manager.backup.backups import Backups, quiet
from session_manager.backup.litestream import Line, Litestream, all_lines
from session_manager.backup.source import scratch_file
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import BackupDamaged
from session_manager.leadership.bucket_lease import Record
from session_manager.storage.files import replace_file

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
    put_back: Callable[[], Awaitable[object]]


class Succession:
    """Without ``tool`` no shipped changes can be fetched."""

    def __init__(self, backups: Backups, source: SqliteSource, tool: Litestream | None) -> None:
        self._backups = backups
        self._source = source
        self._tool = tool

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
            Saved(
                each.term,
                each.taken_at,
                "backup.restored",
                f"backup {each.name}",
                partial(asyncio.to_thread, self._backups.put_back, each),
            )
            for each in manifests
        ]

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
            at = await self._tool.newest_change(line)
            if at is not None:
                put_back = partial(self._fetch, self._tool, line, at)
                states.append(Saved(line.term, at, "shipping.restored", f"shipped changes {line.name}", put_back))
        return states

    async def _fetch(self, tool: Litestream, line: Line, at: datetime) -> None:
        with self._source.alone(), scratch_file(self._source, "shipped") as path:
            await tool.fetch(line, path)
            await asyncio.to_thread(self._source.check, path, None, quiet)
            await asyncio.to_thread(self._source.put_in_place, path, at)


def _report(state: Saved) -> None:
    extra = {"event": state.event, "what": state.what, "term": state.term, "at": state.at.isoformat()}
    log.info("the database was restored from %s", state.what, extra=extra)


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
