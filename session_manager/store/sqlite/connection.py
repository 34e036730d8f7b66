"""A connection to the file, on which transactions run. Only one thread may use it at a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from session_manager.domain.errors import Conflict, InvalidInput, SessionManagerError, StoreUnavailable
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.words import in_sqlite

T = TypeVar("T")
Clock = Callable[[], int]

_CACHED_STATEMENTS = 256
_SHORTEST_PAUSE = 0.0005  # seconds between tries to get a lock from another process; they grow with the wait
_LONGEST_PAUSE = 0.02
# Errors of one statement. All other codes (locked, disk full, I/O, corrupt) are about the whole database.
_OWN_FAULT = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}


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

    def begin_read(self) -> None:
        """Begin a read transaction: all its reads share one snapshot."""
        self.raw.execute("BEGIN")

    def commit(self) -> None:
        self.raw.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back, unless SQLite has already done so because of an error."""
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    def savepoint(self) -> None:
        self.raw.execute("SAVEPOINT op")

    def release(self) -> None:
        self.raw.execute("RELEASE op")

    def undo_to_savepoint(self) -> None:
        self.raw.execute("ROLLBACK TO op")
        self.raw.execute("RELEASE op")

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
        return StoreUnavailable()
    return error
