"""The backup service of a front door. What is behind it is loaded only where there is a place for backups."""

from __future__ import annotations

import logging

from session_manager.backup.service import BackupService
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings

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


def _say_what_is_missing(settings: Settings) -> None:
    words = "Backups need more packages: pip install 'session-manager[backup]', or say STORAGE_BUCKET=off"
    if settings.storage_bucket is not None:
        raise StartupFailure(words)
    log.warning(words, extra={"event": "backup.off"})
