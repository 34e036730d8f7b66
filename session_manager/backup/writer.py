"""The data of the one writer: what it begins with, what it ships, how it leaves.

The order matters. Begin: lease, newest data, signature, database, shipping. Leave: no more writes, database, shipping,
last backup, lease; each step begins after the one before has ended. A writer that lost the lease leaves without them.

A file on this disk has the term of its writer in its stamp. Within that term it is complete, and the bucket is at most
as new. So the file stays unless the bucket has data of a later term. Within a term the later state wins, be it shipped
changes or a backup. Data that is damaged or cannot be fetched completely is logged, and the next state is tried.
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
from session_manager.backup.litestream import Line, Litestream, all_lines, announce, forget_old, line_of
from session_manager.backup.service import BackupService
from session_manager.backup.shipping import FLUSH, Shipper
from session_manager.backup.source import scratch_file
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import (
    BackupDamaged,
    BackupError,
    BackupNotForUs,
    Conflict,
    StartupFailure,
    StorageDenied,
    StorageError,
)
from session_manager.leadership.bucket_lease import BucketLease, Record
from session_manager.leadership.leadership import Leadership, State
from session_manager.storage.files import replace_file

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds between tries to fetch the newest data


@dataclass(slots=True, eq=False)
class OneWriter:
    """``ship_interval`` in seconds, None to ship nothing."""

    backups: Backups
    source: SqliteSource
    lease: BucketLease
    leadership: Leadership
    tool: Litestream | None
    ship_interval: float | None
    _begun: bool = False
    _shipper: Shipper | None = None

    @property
    def writes(self) -> bool:
        return self.leadership.state is State.LEADING

    @property
    def lag(self) -> float | None:
        return round(self._shipper.lag, 1) if self._shipper else None

    async def begin(self) -> None:
        """Wait for the lease and put the newest data in place. May be repeated.

        Raises StartupFailure if none of the stored data is intact, or if the lease was lost since.
        """
        self.leadership.fail_if_lost()
        if self._begun:
            return
        log.info("waiting for the lease", extra={"event": "writer.waiting"})
        await self.leadership.begin()
        await self.leadership.until_held()
        self.backups.term = self.lease.ours.term
        await self._put_newest_in_place()
        self._begun = True

    async def _put_newest_in_place(self) -> None:
        succession = Succession(self.backups, self.source, self.tool)
        while True:
            self.leadership.fail_if_lost()
            try:
                return await succession.begin(self.lease.ours, self.lease.previous)
            except BackupDamaged as error:
                raise StartupFailure(
                    f"None of the data in the bucket is intact ({error.reason}). Restore a backup by its name, or "
                    "empty the bucket, then start again"
                ) from error
            except (StorageDenied, BackupNotForUs) as error:
                raise StartupFailure(f"The newest data could not be fetched from the bucket: {error.reason}") from error
            except (BackupError, Conflict) as error:
                extra = {"event": "writer.not_opened", "reason": getattr(error, "reason", error.detail)}
                log.warning("the newest data could not be fetched; trying again", extra=extra)
                await asyncio.sleep(RETRY)

    async def opened(self) -> None:
        """Serve the database, which is open now, and ship its changes."""
        self.leadership.ready()
        if self.ship_interval is None or self.tool is None:
            return
        line = line_of(self.backups.place, self.lease.ours)
        while True:
            try:  # before anything is shipped: a line that is not announced would not be found
                await asyncio.to_thread(announce, line, self.lease.ours)
                await asyncio.to_thread(forget_old, self.backups.place)
                break
            except StorageError as error:
                log.warning("shipping waits for the bucket", extra={"event": "shipping.waits", "reason": error.reason})
                await asyncio.sleep(RETRY)
        self._shipper = Shipper(self.tool, self.source.path, line, self.ship_interval)
        await self._shipper.start()

    async def leave(self, service: BackupService, *, at_once: bool) -> None:
        """Store the last changes and release the lease, after the database is closed. ``at_once``: there is no time.

        A last backup is made if the changes are not shipped. If neither succeeds, the lease is kept until it expires:
        until then no other instance begins without the changes that only this machine has.
        """
        state = self.leadership.state
        stored = state in (State.STARTING, State.WAITING, State.PREPARING)
        shipper, self._shipper = self._shipper, None
        writing = state is State.LEADING and not at_once
        if shipper is not None:
            stored = await shipper.stop(FLUSH if writing else 0.0)
        backed_up = await service.close(last=writing and not stored)
        if (stored or backed_up) and await self.leadership.release():
            log.info("another instance may begin", extra={"event": "writer.left", "shipped": stored})
        elif writing:
            extra = {"event": "writer.not_released"}
            log.error("the bucket may lack the newest data; the lease was not released", extra=extra)
        await self.leadership.close()


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


@dataclass(frozen=True, slots=True)
class Succession:
    """Finds the data that the last writer left, on this disk or in the bucket. ``tool`` fetches shipped changes."""

    backups: Backups
    source: SqliteSource
    tool: Litestream | None

    async def begin(self, ours: Record, before: Record) -> None:
        """Put the newest state in place and sign it with our term.

        Raises StorageError if the bucket cannot be read now, and BackupDamaged if none of the stored states is intact.
        """
        path = self.source.path
        here = read_stamp(path)
        if self.source.holds_data() and here == Stamp(before.term, before.holder):
            log.info("the database on this disk is the newest", extra={"event": "writer.continues", "term": here.term})
        else:
            await self._put_newest_in_place(here)
        await asyncio.to_thread(write_stamp, path, Stamp(ours.term, ours.holder))

    async def _put_newest_in_place(self, here: Stamp) -> None:
        saved = await self._saved()
        if self.source.holds_data():
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
                found = {"what": state.what, "term": state.term, "at": state.at.isoformat()}
                log.info("the database was restored from %s", state.what, extra={"event": state.event, **found})
                return
        if damage is not None:
            raise damage

    async def _saved(self) -> list[Saved]:
        """Return the states in the bucket, newest first.

        Times of shipped changes are cut to seconds, so within a second shipped changes come before backups.
        """
        states = await self._shipped()
        for each in await asyncio.to_thread(self.backups.catalog.usable):
            put_back = partial(asyncio.to_thread, self.backups.put_back, each)
            states.append(Saved(each.term, each.taken_at, "backup.restored", f"backup {each.name}", put_back))
        return sorted(states, key=lambda state: (state.term, state.at.replace(microsecond=0)), reverse=True)

    async def _shipped(self) -> list[Saved]:
        lines = await asyncio.to_thread(all_lines, self.backups.place)
        if not lines:
            return []
        if self.backups.has_keys:
            message = "shipped changes in the bucket were ignored: no key authenticates them"
            log.error(message, extra={"event": "writer.shipped_ignored"})
            return []
        if self.tool is None:
            message = "shipped changes in the bucket were ignored: litestream is not installed here to fetch them"
            log.warning(message, extra={"event": "writer.shipped_ignored"})
            return []
        states = []
        for line in lines:
            at = await self.tool.newest_change(line)
            if at is not None:
                put_back = partial(self._fetch, self.tool, line, at)
                states.append(Saved(line.term, at, "shipping.restored", f"shipped changes {line.name}", put_back))
        return states

    async def _fetch(self, tool: Litestream, line: Line, at: datetime) -> None:
        with self.source.alone(), scratch_file(self.source, "shipped") as path:
            await tool.fetch(line, path)
            await asyncio.to_thread(self.source.check, path, None, quiet)
            await asyncio.to_thread(self.source.put_in_place, path, at)


def _path(database: Path) -> Path:
    return database.with_name(f"{database.name}.writer")


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
