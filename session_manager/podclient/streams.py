"""Server-sent events of pods: the parser, and the events of a pod that speaks the plain contract."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from session_manager.domain.errors import PodDied, PodFailure, PodRejected
from session_manager.podclient.connection import MAX_REPLY, PodConnection
from session_manager.podclient.protocol import DeltaListener
from session_manager.podclient.replies import CUT_SHORT, delta_text, excerpt, reply_text, text_reply

MAX_EVENT = 1024 * 1024
LINGER = 5.0  # seconds that a pod gets to end its stream after its reply


class EventParser:
    """Takes bytes as they arrive and yields (event, data).

    PodRejected when an event is longer than ``limit`` bytes, or a ``reply`` longer than 8 MiB.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._line = bytearray()
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._line += line
            whole = bytes(self._line)
            self._line.clear()
            self._size += len(whole)
            if whole:
                self._take_line(whole)
            elif (event := self._end()) is not None:
                yield event
        self._line += rest
        limit = MAX_REPLY if self._event == b"reply" else self._limit
        if self._size + len(self._line) > limit:
            raise PodRejected(f"an event of the pod's stream is longer than {limit} bytes")

    def finish(self) -> tuple[str, str] | None:
        """Return the event that the stream ended in, or None if there is none."""
        self._take_line(bytes(self._line))
        return self._end()

    def _end(self) -> tuple[str, str] | None:
        """Return the event that has arrived, or None if it has no data."""
        event, data = self._event, self._data
        self._event, self._data, self._size = b"", [], 0
        if not data:
            return None
        return event.decode("utf-8", "replace"), b"\n".join(data).decode("utf-8", "replace")

    def _take_line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value


async def follow(connection: PodConnection, on_delta: DeltaListener) -> str:
    """Read a stream to its end, and return its reply, or else its deltas joined to one."""
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
    """Let the pod end its stream: hanging up could look to it like a turn that is no longer wanted."""
    try:
        async with asyncio.timeout(LINGER):
            while await connection.chunk() is not None:
                pass
    except (TimeoutError, PodFailure):
        pass


class _Stream:
    """The part of a stream that has arrived so far."""

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
