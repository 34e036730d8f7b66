"""Reads beside the writer, on a few threads, each with its own read-only connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from session_manager.domain.errors import StoreUnavailable
from session_manager.store.sqlite.connection import Connection, translated
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")

THREADS = 4  # more than two cores can use, so that a long listing does not delay short reads


class Reader(Protocol):
    """Runs transactions that only read, each on its own snapshot."""

    async def read(self, transaction: Transaction[T]) -> T: ...

    async def close(self) -> None: ...


def read_snapshot(connect: Callable[[], Connection], transaction: Transaction[T]) -> T:
    """Run all statements of the transaction on one snapshot."""
    try:
        connection = connect()
        connection.begin_read()
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
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(THREADS, thread_name_prefix="sqlite-reader")

    async def read(self, transaction: Transaction[T]) -> T:
        if self._pool is None:
            raise StoreUnavailable
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, transaction)

    def _run(self, transaction: Transaction[T]) -> T:
        return read_snapshot(self._connection, transaction)

    def _connection(self) -> Connection:
        """Return this thread's own connection."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._open.append(connection)
        return connection

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
            for connection in self._open:
                connection.close()
