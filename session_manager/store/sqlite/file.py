"""The database file: readable only by its owner, in WAL mode, on a file system that supports it."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from session_manager.domain.errors import StartupFailure, StoreUnavailable
from session_manager.store.sqlite.connection import Connection, is_busy
from session_manager.store.sqlite.file_system import unsuitable

MEMORY = ":memory:"

_BUSY_PAUSE = 0.01
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables and RETURNING
_LARGEST_WAL = 64 * 1024 * 1024  # bytes to which the WAL is truncated after long reads have let it grow
# 16 MB of WAL, a quarter of the default number of checkpoints, each of which costs two more fsyncs. Not more, because
# until a new WAL has this size each fsync must also commit the growth of the file, which makes a turn 40 % longer.
_CHECKPOINT_PAGES = 4000


def prepare_file(path: Path) -> None:
    """Create the folder (mode 700) and the file (mode 600). Raises StartupFailure with the reason in one line."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StartupFailure(f"SQLite {sqlite3.sqlite_version} is too old; expected 3.37 or newer")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
        path.chmod(0o600)
    except OSError as error:
        raise StartupFailure(f"The database file {path} cannot be written: {error.strerror}") from None
    reason = unsuitable(path.parent)
    if reason is not None:
        raise StartupFailure(
            f"The database file {path} is on {reason}. Use a local disk with backups to the bucket, or PostgreSQL."
        )


def make_durable(connection: Connection, patience: float) -> None:
    """Switch a writing connection to WAL with an fsync at each commit. Blocks for at most ``patience`` seconds.

    SQLite itself does not wait if two processes switch a new file to WAL at once.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return _make_durable(connection)
        except StoreUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE)


def _make_durable(connection: Connection) -> None:
    try:
        mode = connection.raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.raw.execute("PRAGMA synchronous = FULL")
        connection.raw.execute("PRAGMA fullfsync = ON")  # on macOS alone, where fsync does not reach the disk itself
        connection.raw.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.raw.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            raise StoreUnavailable from error
        raise StartupFailure(f"The database file cannot be used: {error}") from None
    except sqlite3.DatabaseError as error:
        raise StartupFailure(f"The database file cannot be used: {error}") from None
    if mode not in ("wal", "memory"):
        raise StartupFailure(
            f"The file system of the database does not support SQLite's WAL (it offers '{mode}'). Use a local disk."
        )
