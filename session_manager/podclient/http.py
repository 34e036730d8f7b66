"""The client of pods that speak plain HTTP: ``POST /chat``, answered at once or as a stream of events."""

from __future__ import annotations

import asyncio

import orjson

from session_manager.domain.errors import PodDied, PodFailure, PodRejected
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.connection import MAX_REPLY, PodConnection
from session_manager.podclient.events import EventParser
from session_manager.podclient.pool import PodPool
from session_manager.podclient.protocol import DeltaListener, TurnReply, TurnRequest
from session_manager.podclient.refusals import CUT_SHORT, check_answer, excerpt
from session_manager.podclient.replies import delta_text, json_text, reply_text, text_reply
from session_manager.runtime.protocol import Address

LINGER = 5.0  # seconds that a pod gets to end its stream after its reply

_HEAD = (
    "POST /chat HTTP/1.1\r\nHost: %s\r\nUser-Agent: session-manager\r\nContent-Type: application/json\r\n"
    "Accept: application/json, text/event-stream\r\nX-Session-Id: %s\r\nX-Message-Id: %s\r\nX-Attempt: %d\r\n"
    "X-Session-Token: %s\r\nContent-Length: %d\r\n\r\n"
)


class HttpPodClient:
    """A PodClient. A message is never sent twice by itself: whether to try again is the caller's matter."""

    def __init__(self) -> None:
        self._pool = PodPool()

    async def start(self) -> None:
        """Nothing to open before the first message."""

    async def close(self) -> None:
        self._pool.close()

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        connection = await self._pool.take(address)
        try:
            connection.send(_encode(address, request))
            await connection.answer()
            if connection.streams:
                return TurnReply(await _follow(connection, on_delta))
            body = bytes(connection.body)
            check_answer(connection.status, connection.headers, body)
            if not connection.framed and json_text(body)[0] is None:
                raise PodDied(CUT_SHORT)
            return TurnReply(reply_text(body))
        finally:
            # After a failure, or when the caller gives up, this closes it: the pod sees that nobody waits any more.
            self._pool.give_back(address, connection)

    def drop(self, uid: str) -> None:
        self._pool.drop(uid)


def host_of(address: Address) -> str:
    return f"[{address.ip}]:{address.port}" if ":" in address.ip else f"{address.ip}:{address.port}"


def _encode(address: Address, request: TurnRequest) -> bytes:
    if not (request.session + request.message_id + request.token).isprintable():
        raise ValueError("an id that cannot stand in a header")
    body = orjson.dumps(
        {
            "message": request.text,
            "message_id": request.message_id,
            "session_id": request.session,
            "user_id": request.user_id,
        }
    )
    head = _HEAD % (host_of(address), request.session, request.message_id, request.attempt, request.token, len(body))
    return head.encode("ascii") + body


async def _follow(connection: PodConnection, on_delta: DeltaListener) -> str:
    """Read a stream to its end; the reply that it gave, or its pieces put together."""
    stream = _Stream(on_delta)
    parser = EventParser()
    while (chunk := await connection.chunk()) is not None:
        for event, data in parser.feed(chunk):
            await stream.take(event, data)
        if stream.reply is not None:
            await _linger(connection)
            return stream.reply
    last = parser.finish()
    if last is not None:
        await stream.take(*last)
    if stream.reply is None and not connection.framed:
        raise PodDied(CUT_SHORT)
    return stream.reply or text_reply("".join(stream.words))


async def _linger(connection: PodConnection) -> None:
    """Let the pod end its stream: to hang up on it could look to it like a turn that nobody wants any more."""
    try:
        async with asyncio.timeout(LINGER):
            while await connection.chunk() is not None:
                pass
    except (TimeoutError, PodFailure):
        pass


class _Stream:
    """What a stream has brought so far."""

    def __init__(self, on_delta: DeltaListener) -> None:
        self.reply: str | None = None
        self.words: list[str] = []
        self._size = 0
        self._on_delta = on_delta

    async def take(self, event: str, data: str) -> None:
        if self.reply is not None:
            return
        if event == "reply":
            self.reply = reply_text(data.encode())
        elif event in {"delta", ""}:
            await self._take_delta(data)
        elif event == "error":
            raise PodRejected(f"the pod's stream ended with an error: {excerpt(data.encode())}")

    async def _take_delta(self, data: str) -> None:
        text, words = delta_text(data)
        self._size += len(words)
        if self._size > MAX_REPLY:
            raise PodRejected(f"the pod's reply is longer than {MAX_REPLY} bytes")
        self.words.append(words)
        await self._on_delta(text)
