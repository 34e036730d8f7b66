"""A connection to Redis that is kept up: opened, greeted, prepared, and opened again when it breaks.

A connection is not used before ``prepare`` has finished with it.  No command is sent twice from here: when its
connection breaks it fails, and its caller decides whether to repeat it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

from session_manager.activity.resp import OnMessage, RedisConnection, RedisError
from session_manager.activity.target import Target
from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import ActivityUnavailable, StartupFailure

log = logging.getLogger(__name__)

Prepare = Callable[[RedisConnection], Awaitable[None]]

BACKOFF = Backoff(0.02, 1.0)
NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA) if hasattr(socket, "EAI_NODATA") else (socket.EAI_NONAME,)
REJECTIONS = {
    "NOAUTH": "wants a password: set REDIS_PASSWORD, or REDIS_URL with one",
    "WRONGPASS": "rejects the user name or password",
    "NOPERM": "does not allow this user the commands AUTH, SELECT and INFO",
    "DENIED": "is in protected mode: it needs a password, or it has to be on this machine",
}


class Reconnecting:
    """``timeout``: seconds to connect, seconds of silence, and seconds that a caller waits for a connection.

    ``name`` is for logs. ``current`` is the connection while there is one.
    """

    def __init__(
        self, target: Target, timeout: float, prepare: Prepare, name: str, on_message: OnMessage | None = None
    ) -> None:
        self._target = target
        self._timeout = timeout
        self._prepare = prepare
        self._name = name
        self._on_message = on_message
        self._keeper: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self.current: RedisConnection | None = None

    async def start(self) -> None:
        """Connect, and stay connected. After StartupFailure or ActivityUnavailable no task is left running."""
        if self._keeper is None:
            connection = await self._open()
            self._publish(connection)
            self._keeper = asyncio.create_task(self._keep(connection), name=self._name)

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await cancel(keeper)

    async def connection(self) -> RedisConnection:
        """Wait up to ``timeout`` seconds for a connection. ActivityUnavailable; at once if it was not started."""
        if self.current is None and self._keeper is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), self._timeout)
        if self.current is None:
            raise ActivityUnavailable
        return self.current

    async def _keep(self, connection: RedisConnection) -> None:
        try:
            while True:
                await self._watch(connection)
                await connection.close()
                self._log("redis connection lost", "redis.lost")
                connection = await self._reopen()
                self._publish(connection)
                self._log("redis connection is back", "redis.back")
        finally:
            await connection.close()

    async def _watch(self, connection: RedisConnection) -> None:
        """Wait until the connection is lost. Only pings show that an idle connection is dead."""
        while not connection.lost.is_set():
            try:
                await asyncio.wait_for(connection.lost.wait(), self._timeout)
            except TimeoutError:
                connection.post(b"PING")

    def _publish(self, connection: RedisConnection) -> None:
        self.current = connection
        self._up.set()

    def _withdraw(self) -> None:
        self.current = None
        self._up.clear()

    def _log(self, message: str, event: str) -> None:
        log.warning(message, extra={"event": event, "connection": self._name})

    async def _reopen(self) -> RedisConnection:
        pauses, rejection = BACKOFF.pauses(), ""
        while True:
            await asyncio.sleep(next(pauses) * random.uniform(0.5, 1))
            try:
                return await self._open()
            except ActivityUnavailable:
                rejection = ""
            except StartupFailure as error:
                if error.detail != rejection:
                    rejection = error.detail
                    self._log(rejection, "redis.refused")
            except Exception:  # a bug in a callback must not end the only task that connects
                log.exception("redis connection could not be prepared", extra={"event": "redis.prepare"})

    async def _open(self) -> RedisConnection:
        connection = await self._connect()
        try:
            await self._greet(connection)
            await self._prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self) -> RedisConnection:
        target = self._target
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: RedisConnection(self._timeout, self._on_message, self._withdraw),
                    target.host,
                    target.port,
                    ssl=target.tls,
                )
        except ssl.SSLError as error:
            raise StartupFailure(f"Redis at {target} does not accept the TLS settings: {error.reason}") from None
        except socket.gaierror as error:
            if error.errno in NO_SUCH_HOST:
                raise StartupFailure(f"Redis at {target}: unknown host") from None
            raise ActivityUnavailable from error
        except OSError as error:
            raise ActivityUnavailable from error
        return connection

    async def _greet(self, connection: RedisConnection) -> None:
        """Log in, choose the database, and learn which Redis process this is."""
        try:
            for command in (*self._target.greeting(), ("INFO", "server")):
                reply = await connection.send(command)
        except RedisError as error:
            reason = REJECTIONS.get(error.code, f"rejects {command[0]}: check user, password and database number")
            raise StartupFailure(f"Redis at {self._target} {reason}") from None
        except ActivityUnavailable:
            if connection.garbled:
                raise StartupFailure(f"The server at {self._target} is not a Redis, or it expects TLS") from None
            raise
        found = re.search(rb"^run_id:(\w+)", reply, re.MULTILINE)
        if found is None:
            raise StartupFailure(f"The server at {self._target} is not a Redis: its INFO has no run_id")
        connection.run_id = found.group(1).decode()
