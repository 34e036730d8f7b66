"""The port to a database of any engine that is backed up and restored."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from session_manager.backup.catalog import Engine, Manifest
from session_manager.domain.errors import BackupDamaged, BackupError, BackupNotForUs
from session_manager.storage.errors import NO_ROOM
from session_manager.store.schema.upgrade import all_migrations

Progress = Callable[[str, int, int], None]
"""Called with the phase, and the done and total amount of it (0 if unknown). An exception from it ends the work."""

SCHEMA = "SELECT version, readable_by FROM session_manager_schema ORDER BY version DESC LIMIT 1"
_ROOM = 16 * 1024 * 1024  # bytes to leave free for others
_NO_ROOM_LEFT = "There is no room left on the disk for the backup"
_SQLITE = {
    sqlite3.SQLITE_FULL: _NO_ROOM_LEFT,
    sqlite3.SQLITE_CORRUPT: "The database is damaged",
    sqlite3.SQLITE_NOTADB: "The file is not a database",
    sqlite3.SQLITE_BUSY: "The database is locked",
    sqlite3.SQLITE_CANTOPEN: "The database could not be opened",
}


@dataclass(frozen=True, slots=True)
class Dump:
    """One consistent state of the database, with everything that was committed before ``taken_at``."""

    taken_at: datetime
    schema_version: int
    rows: Mapping[str, int]


class Source(Protocol):
    """All methods block, and need a thread without a running event loop."""

    engine: Engine

    def alone(self) -> AbstractContextManager[None]:
        """Lock backups and restores of this database. Raises Conflict if another one is running."""
        ...

    def scratch(self, name: str) -> Path:
        """Return a local path for a temporary file of the backup ``name``; ``alone`` removes leftovers of others."""
        ...

    def dump(self, path: Path, progress: Progress) -> Dump:
        """Write the database to the new file ``path`` while others continue to write to it."""
        ...

    def check(self, path: Path, manifest: Manifest, progress: Progress) -> None:
        """Raise BackupDamaged unless the file is an intact database that matches the manifest."""
        ...

    def holds_data(self) -> bool:
        """Return True if there is a database already."""
        ...

    def changed_at(self) -> datetime | None:
        """Return when the database was last written to, or None if that is unknown."""
        ...

    def replace(self, path: Path, manifest: Manifest, progress: Progress) -> str | None:
        """Replace the database by a checked file, in one step. The old one is kept under the returned name.

        Raises Conflict if the database is in use.
        """
        ...


@contextmanager
def scratch_file(source: Source, name: str) -> Iterator[Path]:
    """Yield the path for a temporary file of the backup ``name``, and remove the file at the end."""
    path = source.scratch(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def compare(found: Mapping[str, int], manifest: Manifest) -> None:
    """Raise BackupDamaged if a table has another number of rows than the manifest says."""
    for table in sorted(found.keys() | manifest.rows.keys()):
        rows, expected = found.get(table), manifest.rows.get(table)
        if rows != expected:
            raise BackupDamaged(f"The table {table} of the backup has {rows or 0} rows instead of {expected or 0}")


def reject_newer_schema(version: int, readable_by: int) -> None:
    """Raise BackupNotForUs for a database that only a newer program can read."""
    known = all_migrations()[-1].version
    if version > known and readable_by > known:
        raise BackupNotForUs(
            f"The backup has schema version {version}, but this program supports {known}: use a newer program"
        )


def need_room(folder: Path, size: int) -> None:
    """Raise BackupError if there is no room for ``size`` more bytes."""
    if shutil.disk_usage(folder).free < size + _ROOM:
        raise BackupError(_NO_ROOM_LEFT)


@contextmanager
def local_errors() -> Iterator[None]:
    """Turn errors of the local disk and of SQLite into BackupError."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        raise BackupError(_SQLITE.get(code, ""), reason=f"SQLite: {error}") from error
    except OSError as error:
        detail = _NO_ROOM_LEFT if error.errno in NO_ROOM else ""
        raise BackupError(detail, reason=str(error)) from error
