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
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from session_manager.activity.server import LocalRedis
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import StartupFailure
from session_manager.storage.files import trouble_of

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

    def client(self) -> Redis:
        return Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            socket_timeout=PING_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )

    async def answers(self) -> bool:
        async with self.client() as client:
            try:
                return bool(await client.ping())
            except ResponseError:  # it cannot save, but it is there
                return True
            except (RedisError, OSError):
                return False


class SharedRedis:
    """``url`` (with the password) stays the same from ``start`` to ``stop``, whichever front door runs the server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "address"
        self.url = ""
        self._own: LocalRedis | None = None
        self._saves = True
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
        self._own, self._saves = server, True
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
        failure = ""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            if self._own is not None and self._own.running:
                await self._keep_writable(address)
                continue
            if await address.answers():
                continue
            self._own = None
            try:
                if await self._start_or_join(address) != address:
                    log.error("redis moved to another port; restart this program", extra={"event": "redis.moved"})
                    return
                log.warning("redis restarted", extra={"event": "redis.started_again"})
            except StartupFailure as error:
                if error.detail != failure:
                    log.warning("redis could not be restarted: %s", error.detail, extra={"event": "redis.away"})
                failure = error.detail

    async def _keep_writable(self, address: _Address) -> None:
        """Let Redis go on without its file while the disk is full, and write the file anew when there is room.

        Redis itself would refuse every change, so that no pod could go to sleep. The database has what matters.
        """
        room = trouble_of(self._folder) is None
        if self._saves and room:
            return
        with suppress(RedisError, OSError):
            async with address.client() as client:
                if self._saves and await _cannot_save(client):
                    await client.config_set("appendonly", "no")
                    self._saves = False
                    extra = {"event": "redis.not_saved"}
                    log.error("redis cannot save to its disk and goes on without it", extra=extra)
                elif not self._saves and room:
                    await client.config_set("appendonly", "yes")
                    self._saves = True
                    log.info("redis saves to its disk again", extra={"event": "redis.saved"})


async def _cannot_save(client: Redis) -> bool:
    try:
        await client.ping()
    except ResponseError as error:
        return str(error).startswith("MISCONF")
    return False
