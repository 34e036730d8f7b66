"""The ``Store`` on one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

from session_manager.domain.adk.model import AdoptAs
from session_manager.domain.errors import StoreUnavailable
from session_manager.domain.times import Micros
from session_manager.store.operations import default_class
from session_manager.store.schema.migrations import Migration, all_migrations
from session_manager.store.schema.upgrade import SQLITE, upgrade
from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.connection import Clock, Connection, wall_clock
from session_manager.store.sqlite.file import MEMORY, make_durable, prepare_file
from session_manager.store.sqlite.inline import InlineReader, InlineWriter
from session_manager.store.sqlite.readers import Reader, ThreadReader
from session_manager.store.sqlite.writer import ThreadWriter, Writer
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")
P = ParamSpec("P")

Workers: TypeAlias = Callable[[Connection, Callable[[], Connection], float], tuple[Writer, Reader]]
"""Makes a writer and a reader from the writing connection, a factory of reading ones, and the patience in seconds."""


def threads(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """Use one thread that groups commits, and a few that read."""
    return ThreadWriter(writing, patience), ThreadReader(reading)


def inline(writing: Connection, reading: Callable[[], Connection], patience: float) -> tuple[Writer, Reader]:
    """Use the caller's own thread and one connection."""
    return InlineWriter(writing), InlineReader(writing)


class SqliteStore(SqlStore):
    """``path`` of the file (``:memory:`` only with ``inline``), ``patience`` in seconds, ``clock`` in microseconds.

    ``fence`` raises NotTheWriter if this process may no longer write because another machine could.
    """

    def __init__(
        self,
        path: Path,
        patience: float = 5.0,
        clock: Clock = wall_clock,
        workers: Workers = threads,
        migrations: Sequence[Migration] | None = None,
        fence: Callable[[], None] | None = None,
        adopt_as: AdoptAs = default_class,
    ) -> None:
        super().__init__(adopt_as)
        self._path = path
        self._patience = patience
        self._clock = clock
        self._workers = workers
        self._migrations = all_migrations() if migrations is None else migrations
        self._fence = fence or (lambda: None)
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

    async def now(self) -> Micros:
        return Micros(self._clock())

    def _open(self, *, read_only: bool = False) -> Connection:
        return Connection(str(self._path), self._patience, self._clock, read_only=read_only)

    async def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Check the fence also after the commit: a commit of a process that was stopped meanwhile is not confirmed."""
        if self._writer is None:
            raise StoreUnavailable
        self._fence()
        result = await self._writer.submit(transaction, args, kwargs)
        self._fence()
        return result

    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._reader is None:
            raise StoreUnavailable
        return await self._reader.read(transaction(*args, **kwargs))
