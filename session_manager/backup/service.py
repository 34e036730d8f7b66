"""The backups of a front door: before it starts, while it runs, when it stops.

The work runs in a thread that ends with the process, so that a bucket without an answer does not delay a stop. Several
front doors on one PostgreSQL each look into the bucket under the lock of the database before they begin, so that one
of them makes the backup of an interval.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel, in_thread
from session_manager.backup.catalog import Manifest, new_name
from session_manager.domain.errors import (
    BackupError,
    Conflict,
    NotFound,
    SessionManagerError,
    StartupFailure,
    StorageUnavailable,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from session_manager.backup.backups import Backups, Restored

log = logging.getLogger(__name__)

BACKOFF = Backoff(60.0, 900.0)
LET_GO = 2.0  # seconds for a cancelled backup to end


class Cancelled(BackupError):
    title = "The backup was cut off"


@dataclass(slots=True)
class Job:
    """A backup that is being made, or that failed. ``done`` of ``total`` bytes of a phase; 0 if unknown."""

    name: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    phase: str = "copy"
    done: int = 0
    total: int = 0
    error: str | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    task: asyncio.Task[Manifest] = field(init=False)

    def progress(self, phase: str, done: int, total: int) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self.phase, self.done, self.total = phase, done, total


@dataclass(slots=True)
class Stats:
    """The numbers for the metrics. ``newest`` is the newest known backup, of any front door."""

    newest: Manifest | None = None
    failures: int = 0

    @property
    def age(self) -> float | None:
        """Seconds since the state in the newest backup, or None without a backup."""
        return None if self.newest is None else (datetime.now(UTC) - self.newest.taken_at).total_seconds()


class WriterStats(Protocol):
    """The port to the numbers of the one writer, for the metrics.

    ``writes``: this process may write. ``lag``: seconds since every change was in the bucket; None: nothing is shipped.
    """

    @property
    def writes(self) -> bool: ...

    @property
    def lag(self) -> float | None: ...


class BackupService:
    """``backups`` is None if they are off. ``interval`` and ``shutdown_timeout`` in seconds."""

    def __init__(self, backups: Backups | None, interval: float, shutdown_timeout: float) -> None:
        self._backups = backups
        self._interval = interval
        self._shutdown_timeout = shutdown_timeout
        self._failed: deque[Job] = deque(maxlen=16)
        self._closed = False
        self._started = False
        self.job: Job | None = None
        self.stats = Stats()

    @property
    def url(self) -> str | None:
        """The place of the backups, or None if they are off."""
        return self._backups.place.url if self._backups else None

    @property
    def backups(self) -> Backups:
        """The backups. Raises Conflict if they are off."""
        if self._backups is None:
            raise Conflict("Backups are off: no bucket is configured")
        return self._backups

    @property
    def of_file(self) -> bool:
        """Return True if there are backups, and they are of a SQLite file."""
        return self._backups is not None and self._backups.source.engine == "sqlite"

    async def restore_if_missing(self) -> Restored | None:
        """Restore the newest good backup if there is no database. Call this before the database is opened.

        Raises StoreUnavailable if it should be tried again, and StartupFailure if stored data could not be restored.
        """
        if self._backups is None or not self.of_file:
            return None
        started = monotonic()
        try:
            restored = await in_thread(self._backups.restore_if_missing, "backup")
        except (StorageUnavailable, Conflict) as error:
            raise StoreUnavailable from error
        except BackupError as error:
            raise StartupFailure(
                f"There is no database, and no backup could be restored: {error.reason}. Fix that, or set "
                "STORAGE_BUCKET=off to begin with an empty database"
            ) from error
        if restored is not None:
            _report("backup.restored", "the database was restored from a backup", restored.manifest, started)
        return restored

    async def run(self) -> None:
        """Make a backup whenever the newest one is older than the interval. Run until cancelled."""
        if self._backups is None:
            log.info("backups are off: no bucket is configured", extra={"event": "backup.off"})
            return
        self._started = True
        pause = 0.0
        pauses = BACKOFF.pauses()
        while True:
            await asyncio.sleep(pause)
            try:
                pause, pauses = await self._make_if_due(), BACKOFF.pauses()
            except SessionManagerError:
                pause = next(pauses)

    async def _make_if_due(self) -> float:
        """Make a backup if one is due, and return the seconds until the next one is."""
        try:
            newest = self.stats.newest = await in_thread(self.backups.catalog.newest, "backup")
        except BackupError as error:
            self._count_failure(error)
            raise
        if newest is not None and (left := self._left(newest)) > 0:
            return left
        job = self.job or self._begin(partial(self.backups.create_if_due, self._interval))
        made = await asyncio.shield(job.task)
        await self._prune()
        return max(self._left(made), 1.0)

    def _left(self, newest: Manifest) -> float:
        return newest.left(self._interval, datetime.now(UTC))

    def create(self) -> Job:
        """Begin a backup and return its job. Raises Conflict while another one runs."""
        return self._begin(self.backups.create)

    def _begin(self, make: Callable[..., Manifest]) -> Job:
        if self.job is not None:
            raise Conflict("A backup is already being made")
        job = self.job = Job(new_name(datetime.now(UTC)))
        job.task = asyncio.create_task(self._make(make, job), name="backup")
        job.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # which is already reported
        return job

    async def _make(self, make: Callable[..., Manifest], job: Job) -> Manifest:
        started = monotonic()
        try:
            manifest = await in_thread(partial(make, job.progress, job.name), "backup")
        except SessionManagerError as error:
            job.error = error.detail
            self._failed.append(job)
            self._count_failure(error)
            raise
        except asyncio.CancelledError:
            job.cancelled.set()
            raise
        finally:
            self.job = None
        self.stats.newest = manifest
        if manifest.name == job.name:
            _report("backup.made", "a backup was made", manifest, started)
        return manifest

    def _count_failure(self, error: SessionManagerError) -> None:
        self.stats.failures += 1
        reason = error.reason if isinstance(error, BackupError) else error.detail
        log.error("no backup was made: %s (%s)", error.detail, reason, extra={"event": "backup.failed"})

    async def _prune(self) -> None:
        try:
            pruned = await in_thread(self.backups.prune, "backup")
        except BackupError as error:
            log.warning("old backups were not removed: %s", error.reason, extra={"event": "backup.prune_failed"})
            return
        gone = len(pruned.backups) + len(pruned.leftovers)
        if gone or pruned.kept:
            extra = {"event": "backup.pruned", "backups": pruned.backups, "kept": pruned.kept}
            log.info("%d old backups and leftovers were removed", gone, extra=extra)

    async def list(self) -> list[Manifest]:
        return await in_thread(self.backups.catalog.all, "backup")

    async def get(self, name: str) -> Manifest | Job:
        """Return a backup, or the job of one that is being made or has failed lately. Raises NotFound."""
        backups = self.backups
        for job in (self.job, *self._failed):
            if job is not None and job.name == name:
                return job
        return await in_thread(partial(backups.catalog.get, name), "backup")

    async def verify(self, name: str) -> Manifest:
        if isinstance(await self.get(name), Job):
            raise NotFound("There is no such backup")
        return await in_thread(partial(self.backups.verify, name), "backup")

    async def close(self, *, last: bool = True) -> bool:
        """Make the last backup within its time, if ``last`` is set, and end. Return True if it was made.

        Only a database on this machine gets a last backup, since it may be lost with the machine.
        """
        if self._closed:
            return False
        self._closed = True
        try:
            async with asyncio.timeout(self._shutdown_timeout):
                return last and bool(self._shutdown_timeout) and await self._last()
        except (TimeoutError, SessionManagerError) as error:
            log.warning("the last backup was not made", extra={"event": "backup.last_failed", "reason": str(error)})
            return False
        finally:
            if (job := self.job) is not None:
                job.cancelled.set()
                await asyncio.wait([job.task], timeout=LET_GO)
                await cancel(job.task)

    async def _last(self) -> bool:
        if not (self.of_file and self._started):
            return False
        if self.job is not None:
            await asyncio.wait([self.job.task])
        await asyncio.shield(self.create().task)
        return True


def _report(event: str, words: str, manifest: Manifest, started: float) -> None:
    figures = {"size": manifest.size, "stored_size": manifest.stored_size, "duration": round(monotonic() - started, 3)}
    log.info("%s: %s", words, manifest.name, extra={"event": event, "backup": manifest.name, **figures})
