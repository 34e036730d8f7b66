"""Backups as the settings have them."""

from __future__ import annotations

from pathlib import Path

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.keys import Keys
from session_manager.backup.source import Source
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.storage.places import Place, open_place
from session_manager.store.open import database_path, database_uri
from session_manager.store.postgres.address import PostgresAddress


def open_backups(settings: Settings, path: Path | None = None) -> Backups | None:
    """Of the database of the settings, or of the SQLite file ``path``. None: the settings name no place.

    Nothing is asked yet. StartupFailure for settings that cannot be.
    """
    place = place_of(settings)
    if place is None:
        return None
    retention = Retention(settings.backup_keep, settings.backup_keep_days)
    secret = settings.backup_encryption_keys
    keys = Keys.parse(secret.get_secret_value() if secret else "")
    return Backups(SqliteSource(path) if path else source_of(settings), place, keys, retention)


def place_of(settings: Settings) -> Place | None:
    """Where backups lie; None where the settings say nowhere."""
    if settings.backup_place is None:
        return None
    return open_place(
        settings.backup_place,
        project=settings.google_cloud_project,
        endpoint=settings.storage_emulator_host,
        timeout=settings.backup_timeout,
    )


def source_of(settings: Settings) -> Source:
    path = database_path(settings)
    if path is not None:
        return SqliteSource(path)
    try:
        from session_manager.backup.postgres import PostgresSource  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise StartupFailure("PostgreSQL needs asyncpg: pip install 'session-manager[postgres]'") from None
    return PostgresSource(PostgresAddress.parse(database_uri(settings), settings.session_db_plain_hosts).uri)
