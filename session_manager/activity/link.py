"""The client of Redis: commands and scripts over one pipelined connection, published messages over another.

Every call is tried exactly once.  ActivityUnavailable means that it may have run or not.  Only the caller knows whether
its script may run twice, so only the caller repeats it.  After a reconnect the link subscribes again by itself, and
calls ``on_gap``: messages published meanwhile are lost.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from importlib.resources import files
from typing import Any, Self

from session_manager.activity.reconnecting import Reconnecting, Target
from session_manager.activity.resp import Arg, NoScript, RedisConnection, RedisError
from session_manager.domain.errors import ActivityUnavailable
from session_manager.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Script:
    """A Lua script. ``sha``: its name in Redis."""

    name: str
    source: str = field(repr=False)

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def load_script(name: str) -> Script:
    """Return ``scripts/{name}.lua`` with ``scripts/common.lua`` in front of it."""
    folder = files("session_manager.activity") / "scripts"
    return Script(name, (folder / "common.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8"))


Execute = Callable[..., Awaitable[Any]]  # (script, args=(), keys=())
OnConnect = Callable[[Execute, str], Awaitable[Any]]
Listener = Callable[[bytes], None]
OnGap = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Subscription:
    listener: Listener
    on_gap: OnGap | None
    confirmed: bool = False


class Link:
    """``run_id`` names the Redis process of the current or last connection. Another process may lack our data."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._commands = Reconnecting(target, timeout, self._prepare, "redis commands")
        self._messages = Reconnecting(target, timeout, self._resubscribe, "redis messages", self._on_message)
        self._on_connect: list[OnConnect] = []
        self._channels: dict[bytes, list[_Subscription]] = {}
        self.target = target
        self.run_id = ""

    def __repr__(self) -> str:
        return f"<Link {self.target}>"

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(Target.from_settings(settings), settings.redis.timeout)

    @classmethod
    def from_url(cls, url: str, timeout: float = 2.0) -> Self:
        return cls(Target.from_url(url), timeout)

    async def start(self) -> None:
        """Connect.

        Raises StartupFailure if a retry is useless: wrong credentials or TLS, or not a Redis; else ActivityUnavailable.
        """
        await self._commands.start()
        try:
            await self._messages.start()
        except BaseException:
            await self._commands.close()
            raise

    async def close(self) -> None:
        await self._messages.close()
        await self._commands.close()

    def on_connect(self, callback: OnConnect) -> None:
        """Await ``callback(execute, run_id)`` on every new connection, before any other command is sent on it."""
        if callback not in self._on_connect:
            self._on_connect.append(callback)

    async def execute(self, *args: Arg) -> Any:
        """Run a command and return its reply; bytes stay bytes. RedisError: rejected. ActivityUnavailable: no reply."""
        connection = self._commands.current or await self._commands.connection()
        return await connection.send(args)

    async def script(self, script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Any:
        """Run a script by its hash, and load it first if Redis does not know it."""
        connection = self._commands.current or await self._commands.connection()
        return await _run(connection, script, args, keys)

    async def _prepare(self, connection: RedisConnection) -> None:
        self.run_id = connection.run_id
        for callback in self._on_connect:
            await callback(partial(_run, connection), self.run_id)

    # -- published messages --------------------------------------------------------------------------------------------

    async def subscribe(self, channel: str, listener: Listener, on_gap: OnGap | None = None) -> None:
        """Call ``listener(data)`` for every message from now on, and ``on_gap()`` after an interruption.

        Returns when Redis has confirmed it: each later message arrives, or ``on_gap`` is called.
        """
        name = channel.encode()
        subscription = _Subscription(listener, on_gap)
        self._channels.setdefault(name, []).append(subscription)
        try:
            await (await self._messages.connection()).send((b"SUBSCRIBE", name))
        except BaseException:
            self._drop(name, subscription)
            raise
        subscription.confirmed = True

    async def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop calling ``listener``. Never fails and never waits: without Redis there is nothing to end."""
        name = channel.encode()
        for subscription in self._channels.get(name, []):
            if subscription.listener == listener:
                self._drop(name, subscription)
                return

    def _drop(self, name: bytes, subscription: _Subscription) -> None:
        subscriptions = self._channels[name]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._channels[name]
            self._leave(name)

    def _leave(self, name: bytes) -> None:
        if self._messages.current is not None:
            self._messages.current.post(b"UNSUBSCRIBE", name)

    def _on_message(self, name: bytes, data: bytes) -> None:
        if name not in self._channels:  # left while the connection was being opened again
            self._leave(name)
        for subscription in list(self._channels.get(name, ())):
            _call(subscription.listener, data)

    async def _resubscribe(self, connection: RedisConnection) -> None:
        try:
            await asyncio.gather(*(connection.send((b"SUBSCRIBE", name)) for name in self._channels))
        except RedisError as error:
            log.error("redis rejected a subscription: %s", error.code, extra={"event": "redis.refused"})
            raise ActivityUnavailable from None
        for subscription in [each for channel in self._channels.values() for each in channel]:
            if subscription.confirmed and subscription.on_gap is not None:
                _call(subscription.on_gap)


async def _run(connection: RedisConnection, script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Any:
    for _ in range(3):
        try:
            return await connection.send((b"EVALSHA", script.sha, len(keys), *keys, *args))
        except NoScript:
            await connection.send((b"SCRIPT", b"LOAD", script.source))
    raise ActivityUnavailable


def _call(listener: Callable[..., None], *args: bytes) -> None:
    try:
        listener(*args)
    except Exception:
        log.exception("a listener failed", extra={"event": "redis.listener"})
