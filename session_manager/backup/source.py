"""What a backup is made of and goes back to: a database, of whichever engine."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from session_manager.backup.manifest import Engine, Manifest
from session_manager.domain.errors import BackupDamaged, BackupError, BackupNotForUs
from session_manager.store.schema.migrations import all_migrations

Progress = Callable[[str, int, int], None]
"""Told the phase, how much of it is done, and how much there is (0: nobody knows). What it raises ends the work."""

_ROOM = 16 * 1024 * 1024  # bytes that others need meanwhile
_NO_ROOM_LEFT = "There is no room left on the disk for the backup"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Dump:
    """One state of the database: everything that was committed before ``taken_at``, and nothing in part."""

    taken_at: datetime
    schema_version: int
    rows: Mapping[str, int]


class Source(Protocol):
    """Blocks, and needs a thread without a running event loop."""

    engine: Engine

    def alone(self) -> AbstractContextManager[None]:
        """While nobody else backs this database up or restores it. Conflict: somebody does."""
        ...

    def scratch(self, name: str) -> Path:
        """A path on this machine for a file of the backup ``name``; ``alone`` removes what others left."""
        ...

    def dump(self, path: Path, progress: Progress) -> Dump:
        """Write the database to the new file ``path`` while others go on writing to it."""
        ...

    def check(self, path: Path, manifest: Manifest, progress: Progress) -> None:
        """Whether the file is a whole database with what ``manifest`` says. BackupDamaged if not."""
        ...

    def holds_data(self) -> bool:
        """Whether there is a database already."""
        ...

    def changed_at(self) -> datetime | None:
        """When it was last written to, where that can be told."""
        ...

    def replace(self, path: Path, manifest: Manifest, progress: Progress) -> str | None:
        """Put a checked file in the place of the database, in one step; what was there is kept under the returned name.

        Conflict: somebody uses it.
        """
        ...


def compare(found: Mapping[str, int], manifest: Manifest) -> None:
    """BackupDamaged where a table has not as many rows as the manifest says."""
    for table in sorted(found.keys() | manifest.rows.keys()):
        is_, was = found.get(table), manifest.rows.get(table)
        if is_ != was:
            raise BackupDamaged(f"The table {table} of the backup has {is_ or 0} rows instead of {was or 0}")


def refuse_newer_schema(version: int, readable_by: int) -> None:
    """BackupNotForUs for a database that only a newer program can work with."""
    known = all_migrations()[-1].version
    if version > known and readable_by > known:
        raise BackupNotForUs(
            f"The backup has schema version {version}; this program knows {known}: use a newer program"
        )


def need_room(folder: Path, size: int) -> None:
    """BackupError where ``size`` more bytes would leave others without."""
    if shutil.disk_usage(folder).free < size + _ROOM:
        raise BackupError(_NO_ROOM_LEFT)


@contextmanager
def local_errors() -> Iterator[None]:
    """What this machine's disk or SQLite says, as a BackupError."""
    try:
        yield
    except sqlite3.Error as error:
        raise _of_sqlite(error) from error
    except OSError as error:
        detail = _NO_ROOM_LEFT if error.errno in _NO_ROOM else ""
        raise BackupError(detail, reason=str(error)) from error


def _of_sqlite(error: sqlite3.Error) -> BackupError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    details = {
        sqlite3.SQLITE_FULL: _NO_ROOM_LEFT,
        sqlite3.SQLITE_CORRUPT: "The database is damaged",
        sqlite3.SQLITE_NOTADB: "The database file is none",
        sqlite3.SQLITE_BUSY: "The database is locked",
        sqlite3.SQLITE_CANTOPEN: "The database cannot be opened",
    }
    return BackupError(details.get(code, ""), reason=f"SQLite: {error}")
