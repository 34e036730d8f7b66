"""The gateway to pods: checks the address, speaks the protocol of the session's class, and keeps connections open.

Connections are kept by the pod's UID and not by its address, which another pod may get.  A pod runs one turn at a time,
so one idle connection each is enough.  It is kept for less time than any common server keeps its side (Node.js and
uvicorn: 5 s): a message sent over a connection that the pod is just closing may have been delivered or not.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import orjson

from session_manager.aio.beside import by_size
from session_manager.domain.errors import PodUnreachable
from session_manager.domain.session_class import PodProtocol, SessionClass
from session_manager.podclient.addresses import is_allowed
from session_manager.podclient.adk import AdkPods, StoredSessions
from session_manager.podclient.connection import PodConnection
from session_manager.podclient.protocol import DeltaListener, TurnRequest
from session_manager.podclient.replies import check_answer, reply_text
from session_manager.podclient.streams import follow
from session_manager.runtime.protocol import PodAddress
from session_manager.settings.kinds import Network

KEEP = 2.0  # seconds
CONNECT_WITHIN = 2.0
# A pod whose node is gone closes nothing. Kernels ask each other, however busy the pod is: after 25 s it is dead.
SILENT_FOR = 10  # seconds
ASK_EVERY = 5  # seconds
UNANSWERED = 3

_HEAD = (
    "%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: session-manager\r\nContent-Type: application/json\r\n"
    "Accept: application/json, text/event-stream\r\nX-Session-Id: %s\r\nX-Message-Id: %s\r\nX-Attempt: %d\r\n"
    "X-Session-Token: %s\r\nContent-Length: %d\r\n\r\n"
)


class PodGateway:
    """The PodClient of a front door. A message is never sent twice: whether to try again is up to the caller.

    ``sessions`` reads the stored history for pods that speak ADK. ``networks``: see ``is_allowed``; None allows every
    address, as where pods are processes of this machine.
    """

    def __init__(self, sessions: StoredSessions, networks: tuple[Network, ...] | None = None) -> None:
        self._networks = networks
        self._pool = _Pool()
        self._adk = AdkPods(sessions)

    async def close(self) -> None:
        self._pool.close()

    async def chat(
        self, address: PodAddress, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> str:
        if self._networks is not None and not is_allowed(address, session_class, self._networks):
            raise PodUnreachable("pod address is outside the allowed networks")
        if session_class.protocol is PodProtocol.ADK:
            return await self._adk.chat(address.uid, partial(self._exchange, address, request), request, on_delta)
        async with self._exchange(address, request, "POST /chat", _body(request)) as connection:
            await connection.answer()
            if connection.streams:
                return await follow(connection, on_delta)
            body = bytes(connection.body)
            check_answer(connection.status, connection.headers, body)
            return await by_size(len(body), reply_text, body, framed=connection.framed)

    def drop(self, uid: str) -> None:
        self._adk.forget(uid)
        self._pool.drop(uid)

    def _exchange(
        self, address: PodAddress, request: TurnRequest, target: str, body: bytes, *, skim: bool = False
    ) -> _Exchange:
        """Send a request of this turn. ``target``: method and path. ``skim``: see ``PodConnection.send``."""
        return _Exchange(self._pool, address, _head(address, request, target, len(body)) + body, skim)


def _body(request: TurnRequest) -> bytes:
    ids = {"message_id": request.message_id, "session_id": request.session, "user_id": request.user_id}
    return orjson.dumps({"message": request.text, **ids})


def _head(address: PodAddress, request: TurnRequest, target: str, length: int) -> bytes:
    if not (request.session + request.message_id + request.token).isprintable():
        raise ValueError("an id must be printable to be sent in a header")
    host = f"[{address.ip}]:{address.port}" if ":" in address.ip else f"{address.ip}:{address.port}"
    ids = request.session, request.message_id, request.attempt, request.token
    head = _HEAD % (target, host, *ids, length)
    if request.trace is not None:
        head = f"{head[:-2]}traceparent: {request.trace.parent}\r\n\r\n"
        if request.trace.state:
            head = f"{head[:-2]}tracestate: {request.trace.state}\r\n\r\n"
    return head.encode("ascii")


@dataclass(slots=True, eq=False)
class _Pool:
    """Idle connections by pod. Call ``close`` before the event loop ends."""

    _idle: dict[str, PodConnection] = field(default_factory=dict)
    _in_use: dict[str, PodConnection] = field(default_factory=dict)
    _sweeping: asyncio.TimerHandle | None = None

    async def take(self, address: PodAddress) -> PodConnection:
        """Return a connection with nothing under way on it. PodUnreachable."""
        connection = self._in_use[address.uid] = self._kept(address) or await _connect(address)
        return connection

    def _kept(self, address: PodAddress) -> PodConnection | None:
        connection = self._idle.pop(address.uid, None)
        if connection is None:
            return None
        # Check its age too: a loop that was held up has not swept.
        if connection.open and asyncio.get_running_loop().time() - connection.idle_since < KEEP:
            return connection
        connection.abort()
        return None

    def give_back(self, address: PodAddress, connection: PodConnection) -> None:
        """Keep the connection if it can be used again; otherwise close it."""
        if self._in_use.get(address.uid) is connection:
            del self._in_use[address.uid]
        if not connection.reusable or address.uid in self._idle:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle[address.uid] = connection
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEEP, self._sweep)

    def drop(self, uid: str) -> None:
        """The pod is gone: fail the exchange that waits for its answer."""
        connection = self._in_use.get(uid)
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


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request to a pod, as a context. Written out because the hot path passes here."""

    pool: _Pool
    address: PodAddress
    request: bytes = field(repr=False)
    skim: bool
    connection: PodConnection = field(init=False)

    async def __aenter__(self) -> PodConnection:
        self.connection = await self.pool.take(self.address)
        self.connection.send(self.request, skim=self.skim)
        return self.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a failure, or when the caller gives up, this closes it: the pod sees that the answer is not wanted.
        self.pool.give_back(self.address, self.connection)


async def _connect(address: PodAddress) -> PodConnection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            transport, connection = await loop.create_connection(PodConnection, address.ip, address.port)
    except (OSError, TimeoutError):
        raise PodUnreachable("the pod does not accept connections") from None
    _detect_death(transport.get_extra_info("socket"))
    return connection


def _detect_death(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": SILENT_FOR, "TCP_KEEPINTVL": ASK_EVERY, "TCP_KEEPCNT": UNANSWERED}
    options["TCP_USER_TIMEOUT"] = (SILENT_FOR + UNANSWERED * ASK_EVERY) * 1000
    for name, value in options.items():
        if hasattr(socket, name):  # not every system has them all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
