"""Redis: fakeredis with the real scripts on the virtual clock, and the connection of a process to it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from fakeredis import FakeServer
from fakeredis._socket import FakeSocket
from redis import Redis

from session_manager.activity.embedded.scripts import FastScripts
from session_manager.activity.link import Script
from session_manager.domain.errors import ActivityUnavailable
from tests.sim.clock import VirtualLoop
from tests.sim.gates import Gate

Arg = bytes | str | int | float
Listener = Callable[[bytes], None]
OnConnect = Callable[[Any, str], Awaitable[Any]]
Watcher = Callable[[str, tuple[bytes, ...], Any], None]

TIMEOUT = 2.0  # seconds a caller waits for a connection
RECONNECT = 0.1  # seconds between tries to connect


class _Socket(FastScripts, FakeSocket):
    """A client of fakeredis on the clock of the loop."""

    def __init__(self, server: FakeServer, loop: VirtualLoop) -> None:
        super().__init__(server, 0, client_class=Redis)
        self._loop = loop

    def time(self) -> list[bytes]:
        now = self._loop.unix_micros()
        return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]

    def run(self, command: str, args: Sequence[bytes]) -> Any:
        """Run one command at this instant. Raises the error of Redis."""
        function, signature = self._name_to_func(command.lower())
        with self._server.lock:
            for database in self._server.dbs.values():
                database.time = self._loop.unix_micros() / 1_000_000
            reply = self._decode_result(self._run_command(function, signature, list(args), False))
        if isinstance(reply, Exception):
            raise reply
        return reply


def _bytes(arg: Arg) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode()


class SimRedis:
    """The server. ``watcher(name, args, reply)`` sees every command and script at the instant in which it ran."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        self._loop = loop
        self._random = random
        self._server = FakeServer(version=(7,))
        self._socket = _Socket(self._server, loop)
        self._bus = _Socket(self._server, loop)
        self._bus.run("psubscribe", [b"*"])
        self._drain()
        self._links: list[SimLink] = []
        self._starts = 1
        self.down_until = 0.0
        self.caller = ""
        self.watcher: Watcher = lambda name, args, reply: None

    @property
    def run_id(self) -> str:
        return f"run{self._starts}"

    @property
    def reachable(self) -> bool:
        return self._loop.time() >= self.down_until

    def attach(self, link: SimLink) -> None:
        self._links = [each for each in self._links if not each.gate.dead] + [link]

    def execute(self, *args: Arg) -> Any:
        name, rest = str(args[0]), [_bytes(arg) for arg in args[1:]]
        reply = self._socket.run(name, rest)
        self._drain()
        self.watcher(name.lower(), tuple(rest), reply)
        return reply

    def script(self, script: Script, args: Sequence[Arg], keys: Sequence[Arg] = ()) -> Any:
        rest = [_bytes(arg) for arg in args]
        reply = self._socket.run("eval", [script.source.encode(), b"%d" % len(keys), *map(_bytes, keys), *rest])
        self._drain()
        self.watcher(script.name, tuple(rest), reply)
        return reply

    def look(self, *args: Arg) -> Any:
        """Run a command of the tests themselves, which no watcher sees."""
        return self._socket.run(str(args[0]), [_bytes(arg) for arg in args[1:]])

    def _drain(self) -> None:
        """Deliver the publications."""
        responses = self._bus.responses
        while responses is not None and not responses.empty():
            message: Any = responses.get()
            if message[0] == b"pmessage":
                for link in self._links:
                    link.hear(message[2], message[3])

    # -- faults -----------------------------------------------------------------------------------------------------

    def go_down(self, seconds: float) -> None:
        """Become unreachable for a while, and keep the memory."""
        self.down_until = max(self.down_until, self._loop.time() + seconds)
        self._break_links()

    def flush(self) -> None:
        """Run FLUSHALL: the connections stay."""
        self._socket.run("flushall", [])

    def restart(self, seconds: float, memory: dict[bytes, Any] | None = None) -> None:
        """End, and restart after ``seconds``, empty or with an old ``snapshot``."""
        self._starts += 1
        with self._server.lock:
            self._server.dbs[0].clear()
            if memory:
                self._server.dbs[0].update(copy.deepcopy(memory))
        self.go_down(seconds)

    def snapshot(self) -> dict[bytes, Any]:
        return copy.deepcopy(dict(self._server.dbs[0].items()))

    def _break_links(self) -> None:
        for link in self._links:
            link.break_off()


class SimLink:
    """Like ``activity.link.Link``: one try per call, first in first out, a handshake on every new connection."""

    def __init__(self, redis: SimRedis, gate: Gate, loop: VirtualLoop) -> None:
        self._redis = redis
        self.gate = gate
        self._loop = loop
        self._on_connect: list[OnConnect] = []
        self._listeners: dict[bytes, list[Listener]] = {}
        self._epoch = 0
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._order = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._last_arrival = 0.0
        self.deaf_until = 0.0
        self.run_id = ""

    async def start(self) -> None:
        if self._keeper is None:
            await self._handshake()
            self._redis.attach(self)
            self._keeper = asyncio.create_task(self._keep(), name=f"{self.gate.name} link")

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper

    def on_connect(self, callback: OnConnect) -> None:
        if callback not in self._on_connect:
            self._on_connect.append(callback)

    def break_off(self) -> None:
        """Lose the connection: every call in flight fails, whether it ran or not."""
        self._epoch += 1
        self._connected.clear()
        self._lost.set()

    async def execute(self, *args: Arg) -> Any:
        name = str(args[0]).lower()
        return await self._call(f"redis.{name}", lambda: self._redis.execute(*args))

    async def script(self, script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Any:
        return await self._call(f"redis.{script.name}", lambda: self._redis.script(script, args, keys))

    async def subscribe(self, channel: str, listener: Listener, on_gap: Callable[[], None] | None = None) -> None:
        def run() -> None:
            self._listeners.setdefault(channel.encode(), []).append(listener)

        await self._call("redis.subscribe", run)

    async def unsubscribe(self, channel: str, listener: Listener) -> None:
        with suppress(KeyError, ValueError):  # like the real one, it never fails
            self._listeners[channel.encode()].remove(listener)

    def hear(self, channel: bytes, data: bytes) -> None:
        if self.gate.dead or not self._connected.is_set() or self._loop.time() < self.deaf_until:
            return
        for listener in self._listeners.get(channel, ()):
            self._loop.call_soon(self._deliver, listener, data)

    def _deliver(self, listener: Listener, data: bytes) -> None:
        if not self.gate.dead:
            listener(data)

    async def _call(self, name: str, run: Callable[[], Any]) -> Any:
        if self._keeper is None:
            raise ActivityUnavailable
        if not self._connected.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._connected.wait(), TIMEOUT)
        async with self._order:
            await self.gate.before(name)
            if not self._connected.is_set():
                raise ActivityUnavailable
            epoch, arrival = self._epoch, self._next_arrival()
        return await self._travel(name, run, epoch, arrival)

    def _next_arrival(self) -> float:
        self._last_arrival = max(self._last_arrival + 0.000_01, self._loop.time() + self.gate.latency())
        return self._last_arrival

    async def _travel(self, name: str, run: Callable[[], Any], epoch: int, arrival: float) -> Any:
        """A sent command runs even if its sender crashes or stalls, unless the connection breaks first."""
        await asyncio.sleep(arrival - self._loop.time())
        if self._epoch != epoch or not self._redis.reachable:
            raise ActivityUnavailable
        self._redis.caller = self.gate.name
        reply = run()
        await self.gate.way_back()
        if self._epoch != epoch:
            raise ActivityUnavailable
        try:
            await self.gate.after(name)
        except ActivityUnavailable:
            self.break_off()
            raise
        return reply

    async def _handshake(self) -> None:
        """Connect. StartupFailure is not simulated: passwords do not change during a history."""
        if not self._redis.reachable:
            raise ActivityUnavailable
        self.run_id, epoch = self._redis.run_id, self._epoch

        async def execute(script: Script, args: Sequence[Arg] = (), keys: Sequence[Arg] = ()) -> Any:
            name = f"redis.{script.name}"
            await self.gate.before(name)
            return await self._travel(name, lambda: self._redis.script(script, args, keys), epoch, self._next_arrival())

        for callback in self._on_connect:
            await callback(execute, self.run_id)
        if self._epoch != epoch:
            raise ActivityUnavailable
        self._connected.set()

    async def _keep(self) -> None:
        """Connect again whenever the connection was lost."""
        while True:
            await self._lost.wait()
            await asyncio.sleep(RECONNECT)
            self._lost.clear()
            try:
                await self._handshake()
            except ActivityUnavailable:
                self._lost.set()
