"""The backup service of a front door. What is behind it is loaded only where there is a place for backups."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from session_manager.backup.service import BackupService
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings

if TYPE_CHECKING:
    from session_manager.backup.writer import OneWriter

log = logging.getLogger(__name__)


def open_service(settings: Settings) -> BackupService:
    """Backups as the settings have them, or switched off. StartupFailure: the settings ask for what cannot be."""
    backups = None
    if settings.backup_place is not None:
        try:
            from session_manager.backup.opening import open_backups  # noqa: PLC0415  a second, and optional packages
        except ModuleNotFoundError:
            _say_what_is_missing(settings)
        else:
            backups = open_backups(settings)
    return BackupService(backups, settings.backup_interval, settings.backup_shutdown_timeout)


def open_writer(settings: Settings, service: BackupService) -> OneWriter | None:
    """For SQLite with a bucket, unless the settings say that nobody need make sure. StartupFailure."""
    wanted = settings.writer_lease > 0 and service.of_file
    if settings.backup_mode == "continuous" and not wanted:
        raise StartupFailure("BACKUP_MODE=continuous needs SQLite, a STORAGE_BUCKET, and a WRITER_LEASE that is not 0")
    if not wanted:
        return None
    from session_manager.backup.writer import OneWriter  # noqa: PLC0415  optional packages

    return OneWriter(settings, service.backups)


def _say_what_is_missing(settings: Settings) -> None:
    words = "Backups need more packages: pip install 'session-manager[backup]', or say STORAGE_BUCKET=off"
    if settings.storage_bucket is not None:
        raise StartupFailure(words)
    log.warning(words, extra={"event": "backup.off"})
