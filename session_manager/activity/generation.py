"""Generations: they tell a Redis that has lost something from the one that this process knows.

Redis may come back empty, or older than it was.  The hash ``generation`` = {id, run_id, until} shows it: on every new
connection the founding script runs before any other command, and founds a new generation unless the present one was
founded in this very Redis process.  Every other script names the generation that its caller knows, and does nothing in
any other.  A process that is rejected in this way adopts the present generation: first it takes its leases back, then
it uses the new id.  Before ``until``, only messages run that no pod was given yet, so that every process has the time
to take its leases back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import uuid4

from session_manager.activity.link import Script, load_script
from session_manager.domain.errors import Unavailable

log = logging.getLogger(__name__)

FOUND = load_script("found")

Execute = Callable[[Script, tuple[bytes | str | int, ...]], Awaitable[list[bytes]]]


class Generations:
    """``has_unfinished`` asks SQL. ``take_back`` takes this process's leases again, in the generation it is given."""

    def __init__(
        self,
        lease_ms: int,
        has_unfinished: Callable[[], Awaitable[bool]] | None,
        take_back: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self.current = b""
        self._lease_ms = lease_ms
        self._has_unfinished = has_unfinished
        self._take_back = take_back
        self._adopting = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    async def found(self, execute: Execute, run_id: str) -> bytes:
        """Found the next generation if this Redis process has none, and return the present one."""
        grace = self._lease_ms if await self._work_is_open() else 0
        reply = await execute(FOUND, (uuid4().hex, run_id, grace))
        if reply[1]:
            log.info("generation founded", extra={"event": "redis.generation", "grace_ms": grace})
        return reply[0]

    async def adopt(self, outdated: bytes, execute: Execute, run_id: str) -> None:
        """Use the present generation from now on. Done once for all callers that were rejected with ``outdated``."""
        async with self._adopting:
            if self.current != outdated:
                return
            present = await self.found(execute, run_id)
            await self._take_back(present)
            self.current = present
        for listener in self._listeners:
            listener()

    async def _work_is_open(self) -> bool:
        """Without an answer from SQL, assume that there is: to wait for one lease does no harm."""
        if self._has_unfinished is None:
            return True
        try:
            return await self._has_unfinished()
        except Unavailable:
            return True
