"""The Store on one SQLite file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from session_manager.domain.errors import StoreUnavailable
from session_manager.domain.times import Micros
from session_manager.store.base import SqlStore
from session_manager.store.schema.migrations import Migration, all_migrations
from session_manager.store.schema.upgrade import SQLITE, upgrade
from session_manager.store.sqlite.connection import Clock, Connection, wall_clock
from session_manager.store.sqlite.file import MEMORY, make_durable, prepare_file
from session_manager.store.sqlite.inline import InlineReader, InlineWriter
from session_manager.store.sqlite.readers import Reader, ThreadReader
from session_manager.store.sqlite.writer import ThreadWriter, Writer
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")
P = ParamSpec("P")

Workers: TypeAlias = Callable[[Connection, Callable[[], Connection], float], tuple[Writer, Reader]]
"""Who does the work: given the writing connection, how to open one for reading, and the patience in seconds."""


def threads(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """One thread that groups commits, a few that read."""
    return ThreadWriter(writing, patience), ThreadReader(reading)


def inline(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """The caller's own thread, on one connection."""
    return InlineWriter(writing), InlineReader(writing)


class SqliteStore(SqlStore):
    """``path`` of the file (``:memory:`` only with ``inline``), ``patience`` in seconds, ``clock`` in microseconds.

    ``fence`` raises when this process may not write any more, where others could.
    """

    def __init__(
        self,
        path: Path,
        patience: float = 5.0,
        clock: Clock = wall_clock,
        workers: Workers = threads,
        migrations: Sequence[Migration] | None = None,
        fence: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._patience = patience
        self._clock = clock
        self._workers = workers
        self._migrations = all_migrations() if migrations is None else migrations
        self._fence = fence
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    @property
    def uri(self) -> str:
        return f"sqlite:///{self._path}"

    async def start(self) -> None:
        if str(self._path) != MEMORY:
            prepare_file(self._path)
        writing = self._open()
        try:
            make_durable(writing, self._patience)
        except BaseException:
            writing.close()
            raise
        self._writer, self._reader = self._workers(writing, lambda: self._open(read_only=True), self._patience)
        try:
            await self._write(upgrade, SQLITE, self._migrations)
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

    async def ping(self) -> None:
        await self._read(_ping)

    async def now(self) -> Micros:
        return Micros(self._clock())

    def _open(self, *, read_only: bool = False) -> Connection:
        return Connection(str(self._path), self._patience, self._clock, read_only=read_only)

    def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        if self._writer is None:
            raise StoreUnavailable
        if self._fence is None:
            return self._writer.submit(transaction, args, kwargs)
        return _fenced(self._fence, partial(self._writer.submit, transaction, args, kwargs))

    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._reader is None:
            raise StoreUnavailable
        return await self._reader.read(transaction(*args, **kwargs))


async def _fenced(fence: Callable[[], None], submit: Callable[[], Awaitable[T]]) -> T:
    """Looked at again after the commit: what this process did while it was stopped is nothing to acknowledge."""
    fence()
    result = await submit()
    fence()
    return result


def _ping() -> Transaction[None]:
    yield "SELECT 1", ()
