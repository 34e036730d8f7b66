"""Copies of the database in a bucket or a folder, and restoring them.

The two functions are imported on first use, since that takes a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from session_manager.backup.backups import backup_session_db_to_gcs, restore_session_db_from_gcs

__all__ = ["backup_session_db_to_gcs", "restore_session_db_from_gcs"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from session_manager.backup import backups  # noqa: PLC0415

    return getattr(backups, name)
