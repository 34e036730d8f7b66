"""The one writer of a SQLite database that has a bucket: its lease, what it begins with, what it ships, how it leaves.

The order is the point.  Begin: lease, newest data, signature, database, shipping.  Leave: no more writes, database,
last backup, shipping, lease; each only after the one before is over.  Who lost the lease leaves without any of that.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from session_manager.aio.tasks import first_of
from session_manager.backup.backups import Backups
from session_manager.backup.lines import announce, forget_old, line_of
from session_manager.backup.litestream import Line, find_litestream
from session_manager.backup.requests import ask, asked
from session_manager.backup.shipping import FLUSH, Shipper
from session_manager.backup.sqlite import SqliteSource
from session_manager.backup.succession import Succession
from session_manager.domain.errors import (
    BackupDamaged,
    BackupError,
    BackupNotForUs,
    Conflict,
    StartupFailure,
    StorageDenied,
    StorageError,
)
from session_manager.leadership.bucket_lease import RENEWALS, Lease, Record
from session_manager.leadership.writer_guard import WriterGuard
from session_manager.leadership.writer_state import WriterState
from session_manager.settings import Settings
from session_manager.storage.conditional import open_lease_object

log = logging.getLogger(__name__)


LEASE = "session_writer/lease"
RETRY = 2.0  # seconds between tries to get the newest data


class CloseBackups(Protocol):
    """End the backups, with a ``last`` one if that is said: whether it was made."""

    async def __call__(self, *, last: bool) -> bool: ...


class OneWriter:
    """Of the database of ``backups``, which are those of a SQLite file. StartupFailure: settings that cannot be."""

    def __init__(self, settings: Settings, backups: Backups) -> None:
        if not isinstance(backups.source, SqliteSource):
            raise StartupFailure("One writer is for SQLite: a server of its own sees to that itself")
        self._settings = settings
        self._backups = backups
        self._source = backups.source
        self._endpoint = settings.storage_emulator_host
        self._tool = self._find_tool()
        self._ours: Record | None = None
        self.shipper: Shipper | None = None  # where changes are shipped, from ``opened`` on
        self._instance = settings.instance or socket.gethostname()
        self.guard = WriterGuard(self._open_lease, settings.writer_lease, self._ask)
        backups.fence = self.guard.fence

    @property
    def writes(self) -> bool:
        """Whether this process may write now."""
        return self.guard.state is WriterState.WRITING

    @property
    def lag(self) -> float | None:
        """Seconds since everything was in the bucket; None where nothing is shipped."""
        return round(self.shipper.lag, 1) if self.shipper else None

    async def begin(self) -> None:
        """Wait for the lease, and for the newest data. StartupFailure: there is data, and none of it is whole.

        May be repeated: StartupFailure as well where the lease was lost since.
        """
        self._refuse_if_lost()
        if self._ours is not None:
            return
        ours, before = await self.guard.acquire()
        self._backups.term = ours.term
        await self._succeed(ours, before)
        self._ours = ours

    async def _succeed(self, ours: Record, before: Record) -> None:
        succession = Succession(self._backups, self._source, self._tool, self._endpoint)
        while True:
            self._refuse_if_lost()
            try:
                return await succession.begin(ours, before)
            except BackupDamaged as error:
                raise StartupFailure(
                    f"Nothing that lies in the bucket is whole ({error.reason}). Restore a backup by its name, or "
                    "empty the bucket, then start again"
                ) from error
            except (StorageDenied, BackupNotForUs) as error:
                raise StartupFailure(f"The newest data cannot be had from the bucket: {error.reason}") from error
            except (BackupError, Conflict) as error:
                extra = {"event": "writer.not_opened", "reason": getattr(error, "reason", error.detail)}
                log.warning("the newest data cannot be fetched; trying again", extra=extra)
                await asyncio.sleep(RETRY)

    async def opened(self) -> None:
        """The database is open: from here on it is served, and changes are shipped."""
        self.guard.opened()
        if self._settings.backup_mode == "continuous" and self._tool is not None and self._ours is not None:
            line = line_of(self._backups.place, self._ours)
            await self._announce(line, self._ours)
            interval = self._settings.backup_ship_interval
            self.shipper = Shipper(self._tool, self._source.path, line, interval, self._endpoint)
            await self.shipper.start()

    async def until_over(self) -> None:
        """Until another instance asks for the lease and it is to be had.

        StartupFailure: somebody took it; what is here is not the truth any more, and this process had better start
        again.
        """
        await first_of(self.guard.until_lost(), self._until_asked())
        self._refuse_if_lost()

    def _refuse_if_lost(self) -> None:
        if self.guard.state is WriterState.LOST:
            raise StartupFailure(
                "Another instance has taken over while this one was stopped or could not reach the bucket; what it had "
                "not stored by then is in its database file only, which is put aside at the next start"
            )

    async def leave(self, close_backups: CloseBackups, *, at_once: bool) -> None:
        """After the database is closed: the last changes into the bucket, and the lease to whoever wants it.

        A last backup is made where they are not shipped. Where they get there neither way the lease is kept: it ends by
        itself, and until then nobody begins without what only this machine has. ``at_once``: there is no time for that.
        """
        state = self.guard.state
        stored = state in (WriterState.WAITING, WriterState.OPENING)
        shipper, self.shipper = self.shipper, None
        writing = state is WriterState.WRITING and not at_once
        if shipper is not None:
            stored = await shipper.stop(FLUSH if writing else 0.0)
        backed_up = await close_backups(last=writing and not stored)
        if (stored or backed_up) and await self.guard.release():
            log.info("the next one may begin", extra={"event": "writer.left", "shipped": stored})
        elif writing:
            extra = {"event": "writer.not_released"}
            log.error("the bucket may lack the newest data; the lease is not let go", extra=extra)
        await self.guard.close()

    async def _until_asked(self) -> None:
        """Not at once: instances that are started again and again would take turns."""
        pause = self._settings.writer_lease / RENEWALS
        if not self._settings.writer_yields or self._ours is None:
            await asyncio.Event().wait()
            return
        await asyncio.sleep(self._settings.writer_lease)
        while True:
            with suppress(StorageError):
                by = await asyncio.to_thread(asked, self._backups.place, self._ours.term)
                if by is not None:
                    log.info("%s waits for the lease, and gets it", by, extra={"event": "writer.asked", "by": by})
                    return
            await asyncio.sleep(pause)

    def _ask(self, term: int) -> None:
        ask(self._backups.place, term, self._instance)

    def _open_lease(self) -> Lease:
        place, period = self._backups.place, self._settings.writer_lease
        place.ensure()
        store = open_lease_object(place, LEASE, period / RENEWALS / 2, self._endpoint)
        return Lease(store, period, self._instance)

    def _find_tool(self) -> Path | None:
        """Needed to ship; without shipping it only fetches what was shipped before."""
        if self._settings.backup_mode != "continuous":
            return Path(found) if (found := shutil.which(self._settings.litestream or "litestream")) else None
        if self._settings.backup_encryption_keys is not None:
            raise StartupFailure(
                "BACKUP_MODE=continuous cannot encrypt with BACKUP_ENCRYPTION_KEYS: have the bucket encrypt with a key "
                "of yours, or set BACKUP_MODE=interval"
            )
        return find_litestream(self._settings.litestream)

    async def _announce(self, line: Line, ours: Record) -> None:
        """Until it is there: what is shipped to a line that nobody knows would not be found."""
        while True:
            try:
                await asyncio.to_thread(announce, line, ours)
                await asyncio.to_thread(forget_old, self._backups.place)
            except StorageError as error:
                log.warning("shipping waits for the bucket", extra={"event": "shipping.waits", "reason": error.reason})
                await asyncio.sleep(RETRY)
            else:
                return
