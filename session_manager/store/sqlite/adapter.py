"""The ``Store`` on one SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from session_manager.domain.adk.model import AdoptAs
from session_manager.domain.errors import StoreCannotWrite, StoreUnavailable
from session_manager.domain.quota import NO_QUOTAS, Quotas
from session_manager.domain.times import Micros
from session_manager.storage.files import trouble_of
from session_manager.store.schema.upgrade import SQLITE, Migration, all_migrations, upgrade
from session_manager.store.sql import SqlStore, default_class
from session_manager.store.sqlite.connection import (
    MEMORY,
    Clock,
    Connection,
    make_durable,
    prepare_file,
    translated,
    unavailable,
    wall_clock,
)
from session_manager.store.sqlite.writer import ThreadWriter, run_batch
from session_manager.store.transactions.base import Transaction

_READERS = 4  # more than two cores can use, so that a long listing does not delay short reads

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(eq=False)
class InlineWorker:
    """Runs everything at once on the caller's own thread, so that no time passes and all runs are the same.

    It is for simulations in virtual time, and for tools without concurrent callers. A lock of another process blocks
    the caller's event loop.
    """

    connection: Connection

    async def submit(self, transaction: Callable[..., Transaction[T]], args: Any, kwargs: Any) -> T:
        try:
            self.connection.begin()
        except sqlite3.Error as error:
            raise unavailable(error) from error
        [(value, failure)] = run_batch(self.connection, [(transaction, args, kwargs)])
        if failure is not None:
            raise failure
        result: T = value
        return result

    async def read(self, transaction: Transaction[T]) -> T:
        return read_snapshot(lambda: self.connection, transaction)

    async def close(self) -> None:
        self.connection.close()


def read_snapshot(connect: Callable[[], Connection], transaction: Transaction[T]) -> T:
    """Run all statements of the transaction on one snapshot."""
    try:
        connection = connect()
        connection.raw.execute("BEGIN")
        try:
            return connection.run(transaction)
        finally:
            connection.rollback()
    except Exception as error:
        ours = translated(error)
        if ours is error:
            raise
        raise ours from error


class ThreadReader:
    """Reads on several threads. ``connect`` is called once per thread, at its first read."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._open: list[Connection] = []
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="sqlite-reader")

    async def read(self, transaction: Transaction[T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, read_snapshot, self._connection, transaction)

    def _connection(self) -> Connection:
        """Return this thread's own connection."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._open.append(connection)
        return connection

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._open:
            connection.close()


Writer: TypeAlias = ThreadWriter | InlineWorker
Reader: TypeAlias = ThreadReader | InlineWorker
Workers: TypeAlias = Callable[[Connection, Callable[[], Connection], float], tuple[Writer, Reader]]
"""Makes a writer and a reader from the writing connection, a factory of reading ones, and the patience in seconds."""


def threads(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """Use one thread that groups commits, and a few that read."""
    return ThreadWriter(writing, patience), ThreadReader(reading)


def inline(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """Use the caller's own thread and one connection."""
    worker = InlineWorker(writing)
    return worker, worker


@dataclass(eq=False)
class SqliteStore(SqlStore):
    """``path`` of the file (``:memory:`` only with ``inline``), ``patience`` in seconds, ``clock`` in microseconds.

    ``fence`` raises NotTheWriter if this process may no longer write because another machine could.
    """

    path: Path
    patience: float = 5.0
    clock: Clock = wall_clock
    workers: Workers = threads
    migrations: Sequence[Migration] | None = None
    fence: Callable[[], None] | None = None
    adopt_as: AdoptAs = default_class
    quotas: Quotas = NO_QUOTAS
    _writer: Writer | None = field(default=None, init=False)
    _reader: Reader | None = field(default=None, init=False)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    async def start(self) -> None:
        if str(self.path) != MEMORY:
            prepare_file(self.path)
        writing = self._open()
        try:
            make_durable(writing, self.patience)
        except BaseException:
            writing.close()
            raise
        self._writer, self._reader = self.workers(writing, lambda: self._open(read_only=True), self.patience)
        try:
            await self._write(upgrade, SQLITE, self.migrations or all_migrations())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        if reader is not None:
            await reader.close()
        if writer is not None:
            await writer.close()

    async def now(self) -> Micros:
        return Micros(self.clock())

    def _check_disk(self) -> None:
        """Notice a full disk before a write fails."""
        reason = None if str(self.path) == MEMORY else trouble_of(self.path.parent)
        if reason is not None:
            raise StoreCannotWrite(f"The folder of the database {reason}; nothing was stored")

    def _open(self, *, read_only: bool = False) -> Connection:
        return Connection(str(self.path), self.patience, self.clock, read_only=read_only)

    async def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Check the fence also after the commit: a commit of a process that was stopped meanwhile is not confirmed."""
        if self._writer is None:
            raise StoreUnavailable
        if self.fence:
            self.fence()
        try:
            result = await self._writer.submit(transaction, args, kwargs)
        except StoreCannotWrite:
            self._disk_failed = True
            raise
        if self.fence:
            self.fence()
        return result

    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._reader is None:
            raise StoreUnavailable
        return await self._reader.read(transaction(*args, **kwargs))
