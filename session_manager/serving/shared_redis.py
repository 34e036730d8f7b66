"""One Redis per data folder, shared by every front door on that folder.

The first front door starts it and writes its port and password to ``address``, a file for this user only. Others join
the server that answers there. When the server ends, with its owner or by itself, the first front door that notices
starts it again on the same port, with the same password and data. A lock on the folder makes sure that there is one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from session_manager.activity.server import LocalRedis
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import StartupFailure

log = logging.getLogger(__name__)

CHECK_EVERY = 0.5  # seconds
JOIN_EVERY = 0.1
PING_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class _Address:
    port: int
    password: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            stored = json.loads(path.read_text("utf-8"))
            return cls(int(stored["port"]), str(stored["password"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({"port": self.port, "password": self.password}, file)
        fresh.replace(path)

    async def answers(self) -> bool:
        client = Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            socket_timeout=PING_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        async with client:
            try:
                return bool(await client.ping())
            except (RedisError, OSError):
                return False


class SharedRedis:
    """``url`` (with the password) stays the same from ``start`` to ``stop``, whichever front door runs the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "address"
        self.url = ""
        self._own: LocalRedis | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the server of this folder, or start it. Raises StartupFailure."""
        known = _Address.read(self._path)
        if known is None or not await known.answers():
            known = await self._start_or_join(known)
        self._watching = asyncio.create_task(self._watch(known), name="local redis")
        self.url = f"redis://:{known.password}@127.0.0.1:{known.port}/0"
        running = self._own.description if self._own else "Redis is the one of another front door on this folder"
        log.info(running, extra={"event": "redis.local"})

    async def stop(self) -> None:
        """End the server, if this process started it."""
        if self._watching is not None:
            await cancel(self._watching)
        if self._own is not None:
            await self._own.stop()

    async def _start_or_join(self, known: _Address | None) -> _Address:
        """Start the server, unless another front door is faster, and return its address. Raises StartupFailure."""
        server = LocalRedis(self._folder, known.port, known.password) if known else LocalRedis(self._folder)
        starting = asyncio.create_task(server.start(), name="start local redis")
        try:
            winner = await self._faster_one(server, starting)
            if winner is not None:
                await cancel(starting)
                return winner
            await starting
            address = _Address(server.port, server.password)
            address.write(self._path)
        except BaseException as error:
            await cancel(starting)
            await server.stop()
            if isinstance(error, OSError):
                raise StartupFailure(f"Cannot run Redis in {self._folder}: {error.strerror}") from None
            raise
        self._own = server
        return address

    async def _faster_one(self, server: LocalRedis, starting: asyncio.Task[None]) -> _Address | None:
        """Return another front door's server as soon as it answers, or None if ours has the lock on the folder."""
        while True:
            await asyncio.wait((starting,), timeout=JOIN_EVERY)
            if starting.done() or server.pid is not None:
                return None
            winner = _Address.read(self._path)
            if winner is not None and await winner.answers() and server.pid is None:
                return winner

    async def _watch(self, address: _Address) -> None:
        """Start the server again whenever it has ended."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            if (self._own is not None and self._own.running) or await address.answers():
                continue
            self._own = None
            try:
                if await self._start_or_join(address) != address:
                    log.error("redis moved to another port; restart this program", extra={"event": "redis.moved"})
                    return
                log.warning("redis restarted", extra={"event": "redis.started_again"})
            except StartupFailure as error:
                log.warning("redis could not be restarted: %s", error.detail, extra={"event": "redis.away"})
