"""One Redis per data folder, shared by every front door that works on that folder.

The first to come starts it and leaves its port and password in ``address``, a file for this user only.  Whoever comes
later uses what answers there.  When the server ends, because its owner did or by itself, the next one who notices
starts it again on the same port, with the same password and data; the lock on the folder sees to it that it is one.
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

LOOK_EVERY = 0.5  # seconds
JOIN_EVERY = 0.1
PATIENCE = 2.0


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
            socket_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),
        )
        async with client:
            try:
                return bool(await client.ping())
            except (RedisError, OSError):
                return False


class SharedRedis:
    """``url`` (with the password) stays the same from ``start`` to ``stop``, whoever runs the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "address"
        self.url = ""
        self._own: LocalRedis | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the one that runs, or run it. StartupFailure in one line."""
        known = _Address.read(self._path)
        if known is None or not await known.answers():
            known = await self._run(known)
        self._keeper = asyncio.create_task(self._keep(known), name="local redis")
        self.url = f"redis://:{known.password}@127.0.0.1:{known.port}/0"
        log.info(self._description(), extra={"event": "redis.local"})

    def _description(self) -> str:
        return self._own.description if self._own else "Redis is the one of another front door on this folder"

    async def stop(self) -> None:
        """End the server, if it is ours."""
        if self._keeper is not None:
            await cancel(self._keeper)
        if self._own is not None:
            await self._own.stop()

    async def _run(self, known: _Address | None) -> _Address:
        server = LocalRedis(self._folder, known.port, known.password) if known else LocalRedis(self._folder)
        starting = asyncio.create_task(server.start(), name="start local redis")
        try:
            winner = await self._somebody_else(server, starting)
            if winner is not None:
                await cancel(starting)
                return winner
            await starting
        except BaseException:
            await cancel(starting)
            await server.stop()
            raise
        self._own = server
        address = _Address(server.port, server.password)
        address.write(self._path)
        return address

    async def _somebody_else(self, server: LocalRedis, starting: asyncio.Task[None]) -> _Address | None:
        """Of several that start at once one gets the lock; the others join it as soon as it answers."""
        while True:
            await asyncio.wait((starting,), timeout=JOIN_EVERY)
            if starting.done() or server.pid is not None:
                return None
            winner = _Address.read(self._path)
            if winner is not None and await winner.answers() and server.pid is None:
                return winner

    async def _keep(self, address: _Address) -> None:
        """See to it that the server runs."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if (self._own is not None and self._own.running) or await address.answers():
                continue
            self._own = None
            try:
                if await self._run(address) != address:
                    log.error("redis had to move: restart this program", extra={"event": "redis.moved"})
                    return
                log.warning("redis was started again", extra={"event": "redis.started_again"})
            except StartupFailure as error:
                log.warning("redis is away: %s", error.detail, extra={"event": "redis.away"})
