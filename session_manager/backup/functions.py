"""Backup and restore as two plain functions. They block; an event loop may run or not."""

from __future__ import annotations

from pathlib import Path

from session_manager.backup.backups import Backups
from session_manager.backup.opening import open_backups
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings


def backup_session_db_to_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> str:
    """Back a SQLite file up, while others may write to it, and return the address of the backup's manifest.

    ``bucket_name`` is the name of a bucket, or any URL that STORAGE_BUCKET may be. A missing bucket is made in
    ``project_id``. Everything else (keys, time-outs) comes from the settings. BackupError: there is no new backup.
    """
    backups = _open(local_db_path, bucket_name, project_id)
    return backups.address(backups.create().name)


def restore_session_db_from_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> bool:
    """Restore the newest good backup where there is no database at ``local_db_path``; whether that was done.

    False: there is a database, which is left as it is, or there is no backup. BackupError: there are backups, and none
    could be restored.
    """
    return _open(local_db_path, bucket_name, project_id).restore_if_missing() is not None


def _open(path: str | Path, bucket: str, project: str | None) -> Backups:
    settings = Settings()
    changes = {"storage_bucket": bucket, "google_cloud_project": project or settings.google_cloud_project}
    backups = open_backups(settings.model_copy(update=changes), Path(path))
    if backups is None:
        raise StartupFailure("Name the bucket of the backups")
    return backups
