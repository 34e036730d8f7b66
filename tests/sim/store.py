"""The store of one process on the shared database: every transaction passes the gate of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from session_manager.domain.errors import StoreUnavailable
from session_manager.store.protocol import Store
from session_manager.store.sqlite.adapter import SqliteStore
from tests.sim.clock import VirtualLoop
from tests.sim.gates import Gate


class Database:
    """The real SQLite store on the virtual clock. ``down_until``: time when it can be reached again."""

    def __init__(self, store: SqliteStore, loop: VirtualLoop) -> None:
        self.store = store
        self._loop = loop
        self.down_until = 0.0

    def go_down(self, seconds: float) -> None:
        self.down_until = max(self.down_until, self._loop.time() + seconds)

    @property
    def reachable(self) -> bool:
        return self._loop.time() >= self.down_until


class _GatedStore:
    def __init__(self, database: Database, gate: Gate) -> None:
        self._database = database
        self._gate = gate

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._database.store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._gate.before(f"store.{name}")
            await asyncio.sleep(self._gate.latency())
            await self._gate.alive()
            if not self._database.reachable:
                raise StoreUnavailable
            try:
                return await method(*args, **kwargs)
            finally:
                await self._gate.way_back()
                await self._gate.after(f"store.{name}")

        return call


def gated(database: Database, gate: Gate) -> Store:
    """The database from the view of one process."""
    return cast(Store, _GatedStore(database, gate))
