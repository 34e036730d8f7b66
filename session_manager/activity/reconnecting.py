"""The address of Redis, and a connection that is kept up: opened, greeted, prepared, and opened again when it breaks.

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
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, quote, unquote, urlsplit

from session_manager.activity.resp import OnMessage, RedisConnection, RedisError
from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import ActivityUnavailable, StartupFailure
from session_manager.settings import Settings

log = logging.getLogger(__name__)

_FORM = "invalid REDIS_URL; expected redis://user:password@host:port/0, or rediss:// for TLS"
BACKOFF = Backoff(0.02, 1.0)
NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA) if hasattr(socket, "EAI_NODATA") else (socket.EAI_NONAME,)
REJECTIONS = {
    "NOAUTH": "wants a password: set REDIS_PASSWORD, or REDIS_URL with one",
    "WRONGPASS": "rejects the user name or password",
    "NOPERM": "does not allow this user the commands AUTH, SELECT and INFO",
    "DENIED": "is in protected mode: it needs a password, or it has to be on this machine",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, its credentials and database. Its string never shows the password."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_options: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def from_settings(cls, settings: Settings) -> Target:
        """Use REDIS_URL, or else REDIS_HOST and REDIS_PORT. REDIS_PASSWORD is for an address without a password."""
        password = settings.redis.password.get_secret_value() if settings.redis.password else ""
        if settings.redis.url is not None:
            target = cls.from_url(settings.redis.url.get_secret_value())
            return replace(target, password=target.password or password)
        return cls(settings.redis.host, settings.redis.port, password=password)

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Parse ``redis://`` or ``rediss://``, the latter with ``?ssl_ca_certs=FILE`` or ``?ssl_cert_reqs=none``."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise StartupFailure(_FORM) from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise StartupFailure(_FORM)
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=database,
            tls=_tls(parse_qs(parts.query)) if parts.scheme == "rediss" else None,
            tls_options=parts.query,
        )

    @property
    def url(self) -> str:
        """The URL for other clients of the same Redis. It contains the password."""
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme, options = ("rediss", f"?{self.tls_options}") if self.tls else ("redis", "")
        return f"{scheme}://{user}{host}:{self.port}/{self.database}{options.rstrip('?')}"

    def greeting(self) -> list[tuple[str | int, ...]]:
        """Return the commands that open a connection."""
        commands: list[tuple[str | int, ...]] = []
        if self.password:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


def _tls(options: dict[str, list[str]]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs", [None])[0])
    except OSError as error:
        raise StartupFailure(f"The file in REDIS_URL's ssl_ca_certs cannot be read: {error.strerror}") from None
    if options.get("ssl_cert_reqs") == ["none"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(slots=True, eq=False)
class Reconnecting:
    """``timeout``: seconds to connect, seconds of silence, and seconds that a caller waits for a connection.

    ``name`` is for logs. ``current`` is the connection while there is one.
    """

    target: Target
    timeout: float
    prepare: Callable[[RedisConnection], Awaitable[None]]
    name: str
    on_message: OnMessage | None = None
    current: RedisConnection | None = field(init=False, default=None)
    _keeper: asyncio.Task[None] | None = field(init=False, default=None)
    _up: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def start(self) -> None:
        """Connect, and stay connected. After StartupFailure or ActivityUnavailable no task is left running."""
        if self._keeper is None:
            connection = await self._open()
            self._publish(connection)
            self._keeper = asyncio.create_task(self._keep(connection), name=self.name)

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await cancel(keeper)

    async def connection(self) -> RedisConnection:
        """Wait up to ``timeout`` seconds for a connection. ActivityUnavailable; at once if it was not started."""
        if self.current is None and self._keeper is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._up.wait(), self.timeout)
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
                await asyncio.wait_for(connection.lost.wait(), self.timeout)
            except TimeoutError:
                connection.post(b"PING")

    def _publish(self, connection: RedisConnection) -> None:
        self.current = connection
        self._up.set()

    def _withdraw(self) -> None:
        self.current = None
        self._up.clear()

    def _log(self, message: str, event: str) -> None:
        log.warning(message, extra={"event": event, "connection": self.name})

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
            await self.prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _connect(self) -> RedisConnection:
        target = self.target
        try:
            async with asyncio.timeout(self.timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: RedisConnection(self.timeout, self.on_message, self._withdraw),
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
            for command in (*self.target.greeting(), ("INFO", "server")):
                reply = await connection.send(command)
        except RedisError as error:
            reason = REJECTIONS.get(error.code, f"rejects {command[0]}: check user, password and database number")
            raise StartupFailure(f"Redis at {self.target} {reason}") from None
        except ActivityUnavailable:
            if connection.garbled:
                raise StartupFailure(f"The server at {self.target} is not a Redis, or it expects TLS") from None
            raise
        found = re.search(rb"^run_id:(\w+)", reply, re.MULTILINE)
        if found is None:
            raise StartupFailure(f"The server at {self.target} is not a Redis: its INFO has no run_id")
        connection.run_id = found.group(1).decode()
