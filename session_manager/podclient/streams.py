"""Server-sent events of pods: the parser, and the events of a pod that speaks the plain contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress

from session_manager.aio.beside import by_size
from session_manager.aio.pace import Pace
from session_manager.domain.errors import PodDied, PodFailure, PodRejected
from session_manager.podclient.connection import MAX_REPLY, SLICE, PodConnection
from session_manager.podclient.protocol import DeltaListener
from session_manager.podclient.replies import NO_END, delta_text, excerpt, reply_text, text_reply

MAX_EVENT = 1024 * 1024
LINES = 20_000  # a second, which is 6,000 events: comments and empty lines count too
LINES_AT_ONCE = 4_000
MOST_DELTAS = 100_000  # of one turn
DELTAS = 1_000  # a second; each passes through Redis to every front door with a listener
DELTAS_AT_ONCE = 4_000
DELTA = 2048  # characters; a longer delta counts as several
LINGER = 5.0  # seconds that a pod gets to end its stream after its reply


class EventParser:
    """Takes bytes as they arrive and yields (event, data). ``lines`` counts those that have arrived.

    PodRejected when an event is longer than ``limit`` bytes, or a ``reply`` longer than 8 MiB.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self.lines = 0
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
        self.lines += len(lines)
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


async def events_of(connection: PodConnection, limit: int = MAX_EVENT) -> AsyncGenerator[tuple[str, str], None]:
    """Yield each event of a stream to its end. PodDied: it was cut short.

    A pod that sends more than ``LINES`` a second has to wait, and others are served after each slice.
    """
    parser = EventParser(limit)
    pace, clock = Pace(LINES, LINES_AT_ONCE), asyncio.get_running_loop().time
    while (chunk := await connection.chunk()) is not None:
        known = parser.lines
        for event in parser.feed(chunk):
            yield event
        pause = pace.spend(parser.lines - known, clock())
        if pause or len(chunk) >= SLICE:
            await asyncio.sleep(pause)
    last = parser.finish()
    if last is not None:
        yield last
    if not connection.framed:
        raise PodDied(NO_END)


class Deltas:
    """Passes the deltas of a turn on to ``listener``. A pod that sends them too fast has to wait.

    PodRejected for more than ``MOST_DELTAS``.
    """

    def __init__(self, listener: DeltaListener) -> None:
        self._listener = listener
        self._count = 0
        self._pace = Pace(DELTAS, DELTAS_AT_ONCE)
        self._clock = asyncio.get_running_loop().time

    async def __call__(self, data: str) -> None:
        self._count += 1
        if self._count > MOST_DELTAS:
            raise PodRejected(f"the pod's stream has more than {MOST_DELTAS} deltas")
        pause = self._pace.spend(1 + len(data) // DELTA, self._clock())
        if pause:
            await asyncio.sleep(pause)
        await self._listener(data)


async def follow(connection: PodConnection, on_delta: DeltaListener) -> str:
    """Return the reply of a stream, or else its deltas, joined to one reply at its end."""
    deltas: list[str] = []
    size = 0
    on_delta = Deltas(on_delta)
    async with aclosing(events_of(connection)) as events:
        async for event, data in events:
            if event == "reply":
                await _linger(connection)
                return await by_size(len(data), reply_text, data.encode())
            if event == "error":
                raise PodRejected(f"the pod's stream ended with an error: {excerpt(data.encode())}")
            if event not in {"delta", ""}:
                continue
            text, words = await by_size(len(data), delta_text, data)
            size += len(words)
            if size > MAX_REPLY:
                raise PodRejected(f"the pod's reply is longer than {MAX_REPLY} bytes")
            deltas.append(words)
            await on_delta(text)
    return text_reply("".join(deltas))


async def _linger(connection: PodConnection) -> None:
    """Let the pod end its stream: hanging up could look to it like a turn that is no longer wanted."""
    with suppress(TimeoutError, PodFailure):
        async with asyncio.timeout(LINGER):
            while await connection.chunk() is not None:
                pass
