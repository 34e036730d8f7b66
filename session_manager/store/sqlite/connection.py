"""The database file, and connections to it, on which transactions run.

The file is readable only by its owner, in WAL mode, on a file system that supports it. Only one thread may use a
connection at a time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from session_manager.domain.errors import (
    Conflict,
    InvalidInput,
    SessionManagerError,
    StartupFailure,
    StoreCannotWrite,
    StoreUnavailable,
)
from session_manager.store.sqlite.file_system import unsuitable
from session_manager.store.transactions.base import Transaction, in_sqlite

T = TypeVar("T")
Clock = Callable[[], int]

_CACHED_STATEMENTS = 256
_SHORTEST_PAUSE = 0.0005  # seconds between tries to get a lock from another process; they grow with the wait
_LONGEST_PAUSE = 0.02
# Errors of the disk, with the reason for a person.
_DISK = {
    sqlite3.SQLITE_FULL: "The disk of the database is full; nothing was stored",
    sqlite3.SQLITE_READONLY: "The file of the database is read-only; nothing was stored",
    sqlite3.SQLITE_IOERR: "The disk of the database fails; nothing was stored",
    sqlite3.SQLITE_CANTOPEN: "The files of the database cannot be opened; nothing was stored",
}
# Errors of one statement. All other codes (locked, disk full, I/O, corrupt) are about the whole database.
_OWN_FAULT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}

MEMORY = ":memory:"

_BUSY_PAUSE = 0.01
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables and RETURNING
_LARGEST_WAL = 64 * 1024 * 1024  # bytes to which the WAL is truncated after long reads have let it grow
# 16 MB of WAL, a quarter of the default number of checkpoints, each of which costs two more fsyncs. Not more, because
# until a new WAL has this size each fsync must also commit the growth of the file, which makes a turn 40 % longer.
_CHECKPOINT_PAGES = 4000


def wall_clock() -> int:
    """Return microseconds since 1970, UTC. A database in a file has the clock of its machine."""
    return time.time_ns() // 1000


class Connection:
    """A connection with autocommit outside ``begin``. ``patience``: seconds to wait for a lock of another process."""

    def __init__(self, path: str, patience: float, clock: Clock = wall_clock, *, read_only: bool = False) -> None:
        self.clock = clock
        self._patience = patience
        self.raw = sqlite3.connect(
            path,
            timeout=patience if read_only else 0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
            uri=path.startswith("file:"),
        )
        self.raw.execute("PRAGMA foreign_keys = ON")
        if read_only:
            self.raw.execute("PRAGMA query_only = ON")

    def run(self, transaction: Transaction[T]) -> T:
        """Run the statements of a generator and send it their rows. This neither begins nor commits."""
        execute = self.raw.execute
        try:
            sql, params = next(transaction)
            while True:
                rows = execute(in_sqlite(sql), params).fetchall()
                sql, params = transaction.send(rows)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def begin(self) -> None:
        """Take the write lock. Raises sqlite3.OperationalError if another process holds it longer than the patience.

        SQLite's own waiting retries only every 100 ms in the end. A busy process releases the lock for less than that,
        so it would win nearly every time.
        """
        started = time.monotonic()
        while True:
            try:
                self.raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - started
                if waited >= self._patience or not is_busy(error):
                    raise
                time.sleep(min(_SHORTEST_PAUSE + waited / 20, _LONGEST_PAUSE, self._patience))
            else:
                return

    def rollback(self) -> None:
        """Roll back, unless SQLite has already done so because of an error."""
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def close(self) -> None:
        self.raw.close()


def is_busy(error: sqlite3.Error) -> bool:
    """Return True if another process held a lock for longer than the patience."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def is_own_fault(error: sqlite3.Error) -> bool:
    """Return True if the error is about a statement and its values, so that other calls may continue."""
    return _primary_code(error) in _OWN_FAULT


def _primary_code(error: sqlite3.Error) -> int:
    """Return the primary result code. Errors of the Python module itself have no code."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translated(error: Exception) -> Exception:
    """Return the store's error. A bug of the program stays as it is."""
    if isinstance(error, SessionManagerError):
        return error
    if isinstance(error, UnicodeEncodeError):
        return InvalidInput("text with invalid Unicode cannot be stored")
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("it already exists, or the object that it belongs to does not")
    if isinstance(error, sqlite3.Error) and not is_own_fault(error):
        return unavailable(error)
    return error


def unavailable(error: Exception) -> StoreUnavailable:
    """Return the store's error for a database that failed as a whole."""
    reason = _DISK.get(_primary_code(error)) if isinstance(error, sqlite3.Error) else None
    return StoreUnavailable() if reason is None else StoreCannotWrite(reason)


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
    except sqlite3.DatabaseError as error:
        if is_busy(error):
            raise StoreUnavailable from error
        raise StartupFailure(f"The database file cannot be used: {error}") from None
    if mode not in ("wal", "memory"):
        raise StartupFailure(
            f"The file system of the database does not support SQLite's WAL (it offers '{mode}'). Use a local disk."
        )
