"""Wires the backups and the one writer of a front door. Optional packages are imported only if there is a place."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

from session_manager.backup.service import BackupService
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import StartupFailure
from session_manager.domain.extras import needs_extra
from session_manager.leadership.bucket_lease import LEASE, BucketLease
from session_manager.leadership.leadership import ONE_WRITER, Leadership
from session_manager.settings import Settings
from session_manager.storage.conditional import FolderObject

if TYPE_CHECKING:
    from session_manager.backup.writer import OneWriter
    from session_manager.storage.conditional import ConditionalObject
    from session_manager.storage.places import Place

log = logging.getLogger(__name__)


def open_service(settings: Settings) -> BackupService:
    """Return the backups that the settings ask for, or switched off. Raises StartupFailure if they are impossible."""
    backups = None
    if settings.backup.place is not None:
        try:
            from session_manager.backup.backups import open_backups  # noqa: PLC0415  a second, and optional packages
        except ModuleNotFoundError:
            message = f"{needs_extra('A backup', 'backup')}, or set STORAGE_BUCKET=off"
            if settings.backup.bucket is not None:
                raise StartupFailure(message) from None
            log.warning(message, extra={"event": "backup.off"})
        else:
            backups = open_backups(settings)
    return BackupService(backups, settings.backup.interval, settings.backup.shutdown_timeout)


def open_writer(settings: Settings, service: BackupService) -> OneWriter | None:
    """Return the one writer of a SQLite database with a bucket; None for others, and if WRITER_LEASE is 0.

    Raises StartupFailure for settings that contradict each other.
    """
    source = service.backups.source if service.of_file else None
    continuous = settings.backup.mode == "continuous"
    if not isinstance(source, SqliteSource) or settings.backup.writer_lease <= 0:
        if continuous:
            raise StartupFailure("BACKUP_MODE=continuous needs SQLite, a STORAGE_BUCKET, and a WRITER_LEASE above 0")
        return None
    from session_manager.backup.litestream import Litestream  # noqa: PLC0415  optional packages
    from session_manager.backup.writer import OneWriter  # noqa: PLC0415

    backups, asked = service.backups, settings.backup

    def open_object(name: str, timeout: float) -> ConditionalObject:
        if name == LEASE:  # the first object that is opened
            backups.place.ensure()
        return open_conditional(backups.place, name, timeout, asked.emulator_host)

    if continuous and asked.encryption_keys is not None:
        raise StartupFailure(
            "BACKUP_MODE=continuous cannot encrypt with BACKUP_ENCRYPTION_KEYS: have the bucket encrypt with a key of "
            "yours, or set BACKUP_MODE=interval"
        )
    # In other modes Litestream only fetches what was shipped before.
    tool = Litestream.find(asked.litestream, asked.emulator_host, needed=continuous)
    instance = settings.logs.instance or socket.gethostname()
    lease = BucketLease(open_object, asked.writer_lease, instance, heeds_requests=asked.writer_yields)
    leadership = Leadership(lease, ONE_WRITER, yields_after=asked.writer_lease if asked.writer_yields else None)
    backups.fence = leadership.fence
    interval = asked.ship_interval if continuous else None
    return OneWriter(backups, source, lease, leadership, tool, interval)


def open_conditional(place: Place, name: str, timeout: float, endpoint: str | None = None) -> ConditionalObject:
    """Open the object ``name``. ``timeout`` in seconds per call; ``endpoint`` of a Google Cloud Storage emulator."""
    if place.is_local:
        return FolderObject(place, name)
    if place.url.startswith("s3://"):
        from session_manager.storage.conditional_s3 import S3Object  # noqa: PLC0415  an optional dependency

        return S3Object(place, name, timeout)
    from session_manager.storage.conditional_gcs import GcsObject  # noqa: PLC0415  an optional dependency

    return GcsObject(place, name, timeout, endpoint)
