"""The ``Database`` on a SQLite file, which is either read without ever writing to it, or written in transactions."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote as escaped

from session_manager.databases.database import Column, Kind, Reference, Row, RowRefused, Table, quote, quoted
from session_manager.domain.errors import StartupFailure, StoreUnavailable
from session_manager.store.schema.upgrade import SQLITE
from session_manager.store.sqlite.connection import Connection, is_own_fault, make_durable, prepare_file
from session_manager.store.sqlite.file_system import unsuitable
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")

_KINDS = {"TEXT": Kind.TEXT, "INTEGER": Kind.INT, "REAL": Kind.REAL}


class SqliteDatabase:
    """A connection to a file, or to ``stand_in`` in its place. With ``read_only`` the file must exist.

    ``patience`` is the time in seconds to wait for a lock.
    """

    dialect = SQLITE

    def __init__(self, path: Path, stand_in: Path | None = None, *, read_only: bool, patience: float = 5.0) -> None:
        self.shown = f"sqlite:///{path}"
        self._path = path = stand_in or path
        self._aside = ExitStack()
        with _our_errors(self.shown):
            self._connection = _read_only(path, patience, self._aside) if read_only else _writable(path, patience)
        self._raw = self._connection.raw

    async def close(self) -> None:
        self._connection.close()
        self._aside.close()

    async def tables(self) -> dict[str, Table]:
        made = self._all("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        return {name: self._table(name, sql) for name, sql in made if not name.startswith("sqlite_")}

    def _table(self, name: str, sql: str) -> Table:
        info = self._all('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', name)
        columns = tuple(Column(each[0], _KINDS.get(each[1], Kind.TEXT), bool(each[2])) for each in info)
        key = tuple(each[0] for each in sorted((each for each in info if each[3]), key=lambda each: each[3]))
        by_key = re.search(r"WITHOUT\s+ROWID", sql, re.IGNORECASE) is not None
        return Table(name, columns, key, key if by_key else ("rowid",), tuple(self._references(name)))

    def _references(self, name: str) -> Iterator[Reference]:
        rows = self._all('SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', name)
        for number in dict.fromkeys(row[0] for row in rows):
            of_one = [row for row in rows if row[0] == number]
            yield Reference(tuple(row[2] for row in of_one), of_one[0][1], tuple(row[3] for row in of_one))

    def _all(self, sql: str, *params: object) -> list[Row]:
        with _our_errors(self.shown):
            return self._raw.execute(sql, params).fetchall()

    async def fetch(self, sql: str, *params: object) -> Sequence[Row]:
        return self._all(sql.replace("$", "?"), *params)

    async def run(self, transaction: Transaction[T]) -> T:
        with _our_errors(self.shown):
            return self._connection.run(transaction)

    async def rows(self, table: Table, after: Sequence[Any] | None = None) -> AsyncIterator[Row]:
        sql = table.ordered(after=bool(after)).replace("$", "?")
        with _our_errors(self.shown):
            for row in self._raw.execute(sql, tuple(after or ())):
                yield row

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        places = ", ".join("?" * len(columns))
        into = f"INSERT INTO {quote(table.name)} ({', '.join(quoted(columns))}) VALUES ({places})"  # noqa: S608
        with _our_errors(self.shown):
            try:
                self._raw.executemany(into, rows)
            except sqlite3.IntegrityError as error:
                raise RowRefused(str(error)) from None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        self._raw.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.rollback()

    @asynccontextmanager
    async def writing(self, *, keep: bool = True) -> AsyncIterator[None]:
        with _our_errors(self.shown):
            self._connection.begin()
        try:
            yield
            if keep:
                self._raw.execute("COMMIT")
        finally:
            self._connection.rollback()

    async def reset_counters(self) -> None:
        """Do nothing: SQLite continues after the highest number by itself."""

    async def size(self) -> dict[str, int]:
        beside = [self._path.with_name(self._path.name + end) for end in ("", "-wal", "-shm")]
        return {"database": sum(path.stat().st_size for path in beside if path.exists())}


def _read_only(path: Path, patience: float, aside: ExitStack) -> Connection:
    if not path.is_file():
        raise StartupFailure(f"the database file {path} does not exist")
    if unsuitable(path.parent) is None:
        return _looked_into(path, patience)
    # In WAL even reading needs locks and shared memory. Without them no program can be writing either, so copy the
    # file.
    folder = Path(aside.enter_context(tempfile.TemporaryDirectory(prefix="session-db-")))
    for end in ("", "-wal"):
        if path.with_name(path.name + end).exists():
            shutil.copyfile(path.with_name(path.name + end), folder / f"copy.db{end}")
    return _looked_into(folder / "copy.db", patience)


def _looked_into(path: Path, patience: float) -> Connection:
    connection = Connection(f"file:{escaped(str(path.absolute()))}?mode=ro", patience, read_only=True)
    try:
        connection.raw.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _writable(path: Path, patience: float) -> Connection:
    prepare_file(path)
    connection = Connection(str(path), patience)
    make_durable(connection, patience)
    return connection


@contextmanager
def _our_errors(shown: str) -> Iterator[None]:
    """Translate errors of SQLite. Their text names the database ``shown``."""
    try:
        yield
    except sqlite3.Error as error:
        if is_own_fault(error):
            raise
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnavailable from error
        raise StartupFailure(f"{shown} cannot be used: {error}") from None
