"""One pipelined connection to Redis.

Commands issued within one turn of the event loop leave together in one write, and replies come back in order, so a
queue of futures is all the bookkeeping.  A caller that was cancelled keeps its place in the queue: its reply is
dropped, and all others stay in order.  One timer watches the oldest command in flight.  If Redis is silent for too
long, the connection is closed as broken, since every later reply would have to come after the missing one.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from session_manager.domain.errors import ActivityUnavailable

Arg = bytes | str | int | float
OnMessage = Callable[[bytes, bytes], None]

CANNOT_SAVE = "Redis cannot save to its disk, so it takes no changes"

_INCOMPLETE = object()
# Errors of Redis, also from inside a script, that say it cannot serve at present.
_AWAY = re.compile(
    r"(?:^|: -)(?:OOM|READONLY|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|BUSY|CLUSTERDOWN|TRYAGAIN)\b"
    r"|^ERR max number of clients"
)


class RedisError(Exception):
    """Redis rejected a command: an error in our code or in the server's configuration. ``code`` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class NoScript(RedisError):
    """The script is not in the server's cache, and did not run."""


def _error(rejection: RedisError) -> Exception:
    text = str(rejection)
    if rejection.code == "NOSCRIPT":
        return NoScript(text)
    if not _AWAY.search(text):
        return rejection
    return ActivityUnavailable(CANNOT_SAVE if "MISCONF" in text else "")


class RedisConnection(asyncio.Protocol):
    """``timeout``: seconds of silence after which it is broken. ``on_message(channel, data)`` gets published messages.

    When it ends, ``on_lost()`` is called and ``lost`` is set. ``garbled``: the server sent something that is not a
    reply of Redis. ``run_id`` names the server's process, once it was read.
    """

    def __init__(
        self, timeout: float, on_message: OnMessage | None = None, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._on_message = on_message
        self._on_lost = on_lost
        self._reader = hiredis.Reader(replyError=RedisError, notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._tick = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._alive = True
        self._closed = asyncio.Event()
        self.lost = asyncio.Event()
        self.garbled = False
        self.run_id = ""

    def send(self, args: tuple[Arg, ...]) -> asyncio.Future[Any]:
        """Queue a command for the end of this turn of the event loop. ActivityUnavailable: it may have run or not."""
        if not self._alive:
            raise ActivityUnavailable
        packed = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub knows tuples of one only
        if not self._unsent:
            self._tick = self._loop.time()
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        future = self._loop.create_future()
        self._waiting.append((future, self._tick))
        return future

    def post(self, *args: Arg) -> None:
        """Send a command without waiting for its reply."""
        if self._alive:
            self.send(args).add_done_callback(lambda future: future.exception())

    def _flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        if not self._alive:
            return
        self._transport.write(data)
        if self._timer is None:
            self._timer = self._loop.call_at(self._tick + self._timeout, self._check)

    def _check(self) -> None:
        """Fail if the oldest command in flight is too late; else check again at its deadline."""
        self._timer = None
        if not self._waiting:
            return
        due = self._waiting[0][1] + self._timeout
        if due <= self._loop.time():
            self.fail()
        else:
            self._timer = self._loop.call_at(due, self._check)

    def fail(self) -> None:
        """End the connection and every command in flight, with ActivityUnavailable."""
        if not self._alive:
            return
        self._alive = False
        self._on_lost()
        self.lost.set()
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()
        for future, _ in self._waiting:
            if not future.done():
                future.set_exception(ActivityUnavailable())
        self._waiting.clear()

    async def close(self) -> None:
        """Fail what is in flight and wait until the socket is closed."""
        self.fail()
        await self._closed.wait()

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            self._deliver()
        except (hiredis.ProtocolError, IndexError):  # not a Redis, or a reply without a command
            self.garbled = True
            self.fail()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail()
        self._closed.set()

    def _deliver(self) -> None:
        next_reply = self._reader.gets
        while (reply := next_reply()) is not _INCOMPLETE:
            if self._on_message is not None and type(reply) is list and reply[0] == b"message":
                self._on_message(reply[1], reply[2])
                continue
            future, _ = self._waiting.popleft()
            if future.done():
                continue
            if not isinstance(reply, RedisError):
                future.set_result(reply)
                continue
            future.set_exception(_error(reply))
            if reply.code == "READONLY":  # it is no longer the primary: connect again, to the one that is
                self.fail()
                return
