"""The data of the one writer: what it begins with, what it ships, how it leaves.

The order matters. Begin: lease, newest data, signature, database, shipping. Leave: no more writes, database, shipping,
last backup, lease; each step begins after the one before has ended. A writer that lost the lease leaves without them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from session_manager.backup.backups import Backups
from session_manager.backup.litestream import Litestream, announce, forget_old, line_of
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
from session_manager.leadership.bucket_lease import BucketLease
from session_manager.leadership.leadership import Leadership, State

log = logging.getLogger(__name__)

RETRY = 2.0  # seconds between tries to fetch the newest data


class CloseBackups(Protocol):
    """End the backups, after a ``last`` one if that is wanted. Return True if it was made."""

    async def __call__(self, *, last: bool) -> bool: ...


class OneWriter:
    """``ship_interval`` in seconds, None to ship nothing."""

    def __init__(
        self,
        backups: Backups,
        source: SqliteSource,
        lease: BucketLease,
        leadership: Leadership,
        tool: Litestream | None,
        ship_interval: float | None,
    ) -> None:
        self._backups = backups
        self._source = source
        self._lease = lease
        self._tool = tool
        self._ship_interval = ship_interval
        self._begun = False
        self._shipper: Shipper | None = None
        self.leadership = leadership

    @property
    def writes(self) -> bool:
        """Return True while this process may write."""
        return self.leadership.state is State.LEADING

    @property
    def lag(self) -> float | None:
        """Seconds since every change was in the bucket, or None if nothing is shipped."""
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
        self._backups.term = self._lease.ours.term
        await self._put_newest_in_place()
        self._begun = True

    async def _put_newest_in_place(self) -> None:
        succession = Succession(self._backups, self._source, self._tool)
        while True:
            self.leadership.fail_if_lost()
            try:
                return await succession.begin(self._lease.ours, self._lease.previous)
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
        if self._ship_interval is None or self._tool is None:
            return
        line = line_of(self._backups.place, self._lease.ours)
        while True:
            try:  # before anything is shipped: a line that is not announced would not be found
                await asyncio.to_thread(announce, line, self._lease.ours)
                await asyncio.to_thread(forget_old, self._backups.place)
                break
            except StorageError as error:
                log.warning("shipping waits for the bucket", extra={"event": "shipping.waits", "reason": error.reason})
                await asyncio.sleep(RETRY)
        self._shipper = Shipper(self._tool, self._source.path, line, self._ship_interval)
        await self._shipper.start()

    async def leave(self, close_backups: CloseBackups, *, at_once: bool) -> None:
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
        backed_up = await close_backups(last=writing and not stored)
        if (stored or backed_up) and await self.leadership.release():
            log.info("another instance may begin", extra={"event": "writer.left", "shipped": stored})
        elif writing:
            extra = {"event": "writer.not_released"}
            log.error("the bucket may lack the newest data; the lease was not released", extra=extra)
        await self.leadership.close()
