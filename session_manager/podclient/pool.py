"""Open connections to pods, kept for the next turn.

By the pod's UID and not by its address, which another pod may get.  A pod runs one turn at a time, so one idle
connection each is enough.  It is kept for less time than any common server keeps its side (Node.js and uvicorn: 5 s): a
message sent into a connection that the pod is just closing would count as perhaps delivered.
"""

from __future__ import annotations

import asyncio
import socket

from session_manager.domain.errors import PodUnreachable
from session_manager.podclient.connection import PodConnection
from session_manager.runtime.protocol import Address

KEEP = 2.0  # seconds
CONNECT_WITHIN = 2.0
# A pod whose node is gone closes nothing. Kernels ask each other, however busy the pod is: after 25 s it is dead.
SILENT_FOR = 10  # seconds
ASK_EVERY = 5  # seconds
UNANSWERED = 3


class PodPool:
    """``close`` before the event loop ends."""

    def __init__(self) -> None:
        self._idle: dict[str, PodConnection] = {}
        self._at_work: dict[str, PodConnection] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self, address: Address) -> PodConnection:
        """A connection with nothing under way on it. PodUnreachable."""
        connection = self._at_work[address.uid] = self._kept(address) or await _connect(address)
        return connection

    def _kept(self, address: Address) -> PodConnection | None:
        connection = self._idle.pop(address.uid, None)
        if connection is None:
            return None
        # Its age too: a loop that was held up has not swept.
        if connection.open and asyncio.get_running_loop().time() - connection.idle_since < KEEP:
            return connection
        connection.abort()
        return None

    def give_back(self, address: Address, connection: PodConnection) -> None:
        """Keep it if it can be used again; otherwise close it."""
        if self._at_work.get(address.uid) is connection:
            del self._at_work[address.uid]
        if not connection.reusable or address.uid in self._idle:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[address.uid] = connection
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEP, self._sweep)

    def drop(self, uid: str) -> None:
        """The pod is gone: who waits on its connection is told now."""
        connection = self._at_work.get(uid)
        if connection is not None:
            connection.drop()

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._idle:
            self._idle.popitem()[1].abort()

    def _sweep(self) -> None:
        self._sweeping = None
        loop = asyncio.get_running_loop()
        for uid, connection in list(self._idle.items()):  # the longest idle first
            rest = connection.idle_since + KEEP - loop.time()
            if rest > 0:
                self._sweeping = loop.call_later(rest, self._sweep)
                return
            del self._idle[uid]
            connection.abort()


async def _connect(address: Address) -> PodConnection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            transport, connection = await loop.create_connection(PodConnection, address.ip, address.port)
    except (OSError, TimeoutError):
        raise PodUnreachable("the pod does not accept connections") from None
    _notice_death(transport.get_extra_info("socket"))
    return connection


def _notice_death(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": SILENT_FOR, "TCP_KEEPINTVL": ASK_EVERY, "TCP_KEEPCNT": UNANSWERED}
    options["TCP_USER_TIMEOUT"] = (SILENT_FOR + UNANSWERED * ASK_EVERY) * 1000
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has them all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
