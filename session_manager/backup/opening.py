"""Opening the backups that the settings describe, and backup and restore as two plain functions."""

from __future__ import annotations

from pathlib import Path

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.keys import Keys
from session_manager.backup.source import Source
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.storage.places import open_place
from session_manager.store.open import database_path, database_uri
from session_manager.store.postgres.address import PostgresAddress


def open_backups(settings: Settings, path: Path | None = None) -> Backups | None:
    """Return the backups of the database in the settings, or of the SQLite file ``path``.

    Returns None if the settings name no place. Sends no request yet. Raises StartupFailure for invalid settings.
    """
    if settings.backup.place is None:
        return None
    place = open_place(
        settings.backup.place,
        project=settings.backup.project,
        endpoint=settings.backup.emulator_host,
        timeout=settings.backup.timeout,
    )
    retention = Retention(settings.backup.keep, settings.backup.keep_days)
    secret = settings.backup.encryption_keys
    keys = Keys.parse(secret.get_secret_value() if secret else "")
    return Backups(SqliteSource(path) if path else _source_of(settings), place, keys, retention)


def _source_of(settings: Settings) -> Source:
    path = database_path(settings)
    if path is not None:
        return SqliteSource(path)
    try:
        from session_manager.backup.postgres import PostgresSource  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise StartupFailure("PostgreSQL needs asyncpg: pip install 'session-manager[postgres]'") from None
    return PostgresSource(PostgresAddress.parse(database_uri(settings), settings.database.plain_hosts).uri)


def backup_session_db_to_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> str:
    """Back up a SQLite file, which may be in use, and return the address of the backup's manifest.

    ``bucket_name`` is the name of a bucket, or any URL that STORAGE_BUCKET accepts. A missing bucket is created in
    ``project_id``. Everything else (keys, time-outs) comes from the settings. Blocks; an event loop may be running.
    Raises BackupError if no backup was made.
    """
    backups = _open_file(local_db_path, bucket_name, project_id)
    return backups.address(backups.create().name)


def restore_session_db_from_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> bool:
    """Restore the newest good backup if there is no database at ``local_db_path``.

    Return True if a backup was restored. A database that exists stays as it is. Blocks; an event loop may be running.
    Raises BackupError if there are backups and none could be restored.
    """
    return _open_file(local_db_path, bucket_name, project_id).restore_if_missing() is not None


def _open_file(path: str | Path, bucket: str, project: str | None) -> Backups:
    settings = Settings.from_environment(storage_bucket=bucket, google_cloud_project=project)
    backups = open_backups(settings, Path(path))
    if backups is None:
        raise StartupFailure("Name the bucket of the backups")
    return backups
