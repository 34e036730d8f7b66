"""The client of Redis: commands and scripts over one pipelined connection, messages over another.

Every call is tried exactly once.  ActivityUnavailable means that it may have run or not.  Only the caller knows whether
its script may run twice, so only the caller repeats it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, Self

from session_manager.activity.reconnecting import Reconnecting
from session_manager.activity.resp import Arg, NoScript, RedisConnection
from session_manager.activity.subscriber import Listener, OnGap, Subscriber
from session_manager.activity.target import Target
from session_manager.domain.errors import ActivityUnavailable
from session_manager.settings import Settings

SCRIPT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. ``sha``: its name in Redis."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest())


@cache
def load_script(name: str) -> Script:
    """Return ``scripts/{name}.lua`` with ``scripts/common.lua`` in front of it."""
    folder = files("session_manager.activity") / "scripts"
    return Script(name, (folder / "common.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8"))


class Execute(Protocol):
    """Run a script on a new connection, before any other command."""

    def __call__(self, script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Awaitable[Any]: ...


OnConnect = Callable[[Execute, str], Awaitable[Any]]


class Link:
    """``run_id`` names the Redis process of the current or last connection. Another process may lack our data."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._target = target
        self._line = Reconnecting(target, timeout, self._prepare, "redis commands")
        self._subscriber = Subscriber(target, timeout)
        self._on_connect: list[OnConnect] = []
        self.run_id = ""

    def __repr__(self) -> str:
        return f"<Link {self._target}>"

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
        await self._line.start()
        try:
            await self._subscriber.start()
        except BaseException:
            await self._line.close()
            raise

    async def close(self) -> None:
        await self._subscriber.close()
        await self._line.close()

    @property
    def url(self) -> str:
        """The URL for other clients of the same Redis. It contains the password."""
        return self._target.url

    def on_connect(self, callback: OnConnect) -> None:
        """Await ``callback(execute, run_id)`` on every new connection, before any other command is sent on it."""
        if callback not in self._on_connect:
            self._on_connect.append(callback)

    async def execute(self, *args: Arg) -> Any:
        """Run a command and return its reply; bytes stay bytes. RedisError: rejected. ActivityUnavailable: no reply."""
        connection = self._line.current or await self._line.connection()
        return await connection.send(args)

    async def script(self, script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Any:
        """Run a script by its hash, and load it first if Redis does not know it."""
        connection = self._line.current or await self._line.connection()
        return await _run(connection, script, args, keys)

    async def subscribe(self, channel: str, listener: Listener, on_gap: OnGap | None = None) -> None:
        """Call ``listener(data)`` for every message from now on, and ``on_gap()`` after an interruption."""
        await self._subscriber.subscribe(channel, listener, on_gap)

    async def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop calling ``listener``. Never fails and never waits."""
        self._subscriber.unsubscribe(channel, listener)

    async def _prepare(self, connection: RedisConnection) -> None:
        self.run_id = connection.run_id

        def execute(script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Awaitable[Any]:
            return _run(connection, script, args, keys)

        for callback in self._on_connect:
            await callback(execute, self.run_id)


async def _run(connection: RedisConnection, script: Script, args: Sequence[Arg], keys: Sequence[Arg]) -> Any:
    for _ in range(SCRIPT_TRIES):
        try:
            return await connection.send((b"EVALSHA", script.sha, len(keys), *keys, *args))
        except NoScript:
            await connection.send((b"SCRIPT", b"LOAD", script.source))
    raise ActivityUnavailable
