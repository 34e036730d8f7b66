"""One connection to a pod: HTTP/1.1, one exchange at a time, everything that the pod sends bounded.

It understands only the few things that a pod may answer, since this is the hot path and a pod may be hostile: it
follows no redirect, keeps no cookie, decompresses nothing, and holds no more than its limits.

Each turn of the event loop parses one slice, however much has arrived.  A pod that sends more pieces than ``PIECES`` a
second has to wait: chunks of a byte cost a thousand times as much as their bytes.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from session_manager.aio.pace import Pace
from session_manager.domain.errors import PodDied, PodFailure, PodRejected

MAX_HEAD = 64 * 1024
MAX_REPLY = 8 * 1024 * 1024
MAX_ANSWER = 64 * 1024 * 1024  # bytes on the wire: a reply in the smallest chunks, or a long stream
MAX_SKIMMED = 512 * 1024 * 1024  # bytes of an answer that is not kept
MAX_UNREAD = 256 * 1024  # unread bytes of a stream from which on the pod has to wait
SLICE = 16 * 1024  # bytes parsed in one turn of the event loop: a millisecond at worst
PIECES = 20_000  # reads or chunks a second, a hundredth of a processor; models write a few hundred tokens a second
PIECES_AT_ONCE = 4_000

_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})
_KEPT = frozenset({b"content-type", b"content-encoding", b"retry-after", b"x-session-events", *_LENGTHS})
_KEPT_SIZES = frozenset(map(len, _KEPT))


class PodConnection(asyncio.Protocol):
    """Call ``send``, then ``answer``, and for a stream ``chunk`` until None; then again while ``open``.

    ``framed``: the answer declared where it ends. One that ends with the connection may have been cut short.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.streams = False
        self.framed = False
        self.idle_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._parser = HttpResponseParser(self)
        self._readable = select.poll()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunks: deque[bytes] = deque()
        self._unread = 0
        self._throttled = False
        self._pace = Pace(PIECES, PIECES_AT_ONCE)
        self._pieces = 0  # since the beginning of the slice
        self._rest = b""  # has arrived, and is parsed in the next turns of the event loop
        self._next: asyncio.Handle | None = None  # that turn, for which the pod waits
        self._closed: tuple[Exception | None] | None = None  # the connection was lost while there was a rest
        self._received = 0
        self._most = MAX_ANSWER
        self._idle_talk = 0  # bytes since the last one of a body: headers, trailers, the framing of chunks
        self._skims = False
        self._head_done = True
        self._done = True
        self._until_close = False
        self._last = False  # nothing can be sent after this exchange
        self._failure: PodFailure | None = None

    # -- for the client ------------------------------------------------------------------------------------------------

    def send(self, request: bytes, *, skim: bool = False) -> None:
        """``skim``: only the beginning of the answer matters, and it may be longer than a reply."""
        self._skims = skim
        self._most = MAX_SKIMMED if skim else MAX_ANSWER
        self._received = 0
        self.status = 0
        self.headers = {}
        self.body = bytearray()
        self.streams = False
        self._idle_talk = 0
        self._head_done = self._done = self._until_close = self.framed = False
        if self._transport is not None:
            self._transport.write(request)

    async def answer(self) -> None:
        """Wait for the whole answer, or for the head of a stream. PodDied, PodRejected."""
        while not (self._done or self.streams):
            await self._wait()

    async def chunk(self) -> bytes | None:
        """Return the next bytes of a stream, or None at its end: all that are there, up to about a slice.

        Raises PodDied and PodRejected.
        """
        while not self._chunks:
            if self._done:
                return None
            await self._wait()
        chunk = self._take()
        self._unread -= len(chunk)
        self._throttle()
        return chunk

    def _take(self) -> bytes:
        chunk = self._chunks.popleft()
        if not self._chunks or len(chunk) >= SLICE:
            return chunk
        taken = bytearray(chunk)
        while self._chunks and len(taken) < SLICE:
            taken += self._chunks.popleft()
        return bytes(taken)

    @property
    def reusable(self) -> bool:
        """The exchange has ended, and neither side wants to close the connection."""
        return self._done and not self._last and not self._rest

    @property
    def open(self) -> bool:
        """It is reusable, and the pod has neither closed it nor sent anything since, as far as the kernel knows.

        The event loop may not yet know what the kernel knows: a message sent over a connection that the pod has closed
        may have been delivered or not.
        """
        return self.reusable and not self._readable.poll(0)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """The pod is gone: end the exchange by PodDied."""
        self._fail(PodDied("the pod is gone"))

    def _throttle(self) -> None:
        """Make the pod wait while the reader of its stream, or the parser, is behind."""
        too_much = self._next is not None or self._unread >= MAX_UNREAD
        if too_much != self._throttled and self._transport is not None and not self._transport.is_closing():
            self._throttled = too_much
            (self._transport.pause_reading if too_much else self._transport.resume_reading)()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._failure is None:
            if self._next is not None:  # a transport may still deliver what it had read
                self._rest += data
            else:
                self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Parse one slice; the rest has to wait for its turn, and so has the pod if it is too fast."""
        piece, self._rest = (data, b"") if len(data) <= SLICE else (data[:SLICE], data[SLICE:])
        self._pieces = 0
        self._feed(piece)
        if self._chunks:
            self._wake()
        if self._done and not self._rest:
            return  # the usual case: nothing follows that the pod could be made to wait with
        pause = self._pace.spend(max(1, self._pieces), self._loop.time())
        if self._failure is None:
            if pause:
                self._next = self._loop.call_later(pause, self._go_on)
            elif self._rest:
                self._next = self._loop.call_soon(self._go_on)
            self._throttle()

    def _feed(self, piece: bytes) -> None:
        self._received += len(piece)
        self._idle_talk += len(piece)
        try:
            self._parser.feed_data(piece)
        except (HttpParserError, HttpParserUpgrade):
            self._fail(PodRejected("the pod's answer is not HTTP"))
        if self._idle_talk > MAX_HEAD:
            self._fail(PodRejected("the pod's answer has too many headers"))
        if self._received > self._most:
            self._fail(PodRejected(f"the pod's answer is longer than {self._most} bytes with its chunks and comments"))

    def _go_on(self) -> None:
        self._next = None
        if self._failure is None and self._rest:
            self._parse(self._rest)
        self._throttle()
        if self._closed is not None and not (self._rest and self._failure is None):
            self._end(self._closed[0])

    def connection_lost(self, exc: Exception | None) -> None:
        self._last = True
        if self._rest and self._failure is None:
            self._closed = (exc,)
        else:
            self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        if self._failure is None:
            self._done = self._done or (self._until_close and exc is None)
            if not self._done:
                self._failure = PodDied("the pod closed the connection before its answer was complete")
        self._wake()
        if self._next is not None:
            self._next.cancel()
        del self._parser  # it and this object refer to each other, and would stay until the garbage collector runs

    def _fail(self, failure: PodFailure) -> None:
        if not self._done:
            self._failure = failure
        self._last = True
        self.abort()
        self._wake()

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._done:  # an answer without a request: the next message could be given it
            self._last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) in _KEPT_SIZES and (name := name.lower()) in _KEPT and not self._head_done:
            self.headers[name] = value

    def on_headers_complete(self) -> None:
        if self._done:
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self._head_done = True
        self._until_close = self.headers.keys().isdisjoint(_LENGTHS)
        kind = self.headers.get(b"content-type", b"")
        if kind.startswith(b"text/event-stream") and self.status < 300:
            self.streams = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._idle_talk = 0
        if self._done:
            return
        self._pieces += 1
        if self.streams:
            self._chunks.append(body)
            self._unread += len(body)
        elif len(self.body) + len(body) <= MAX_REPLY:
            self.body += body
        elif not self._skims:
            self._fail(PodRejected(f"the pod's reply is longer than {MAX_REPLY} bytes"))

    def on_message_complete(self) -> None:
        if self.status < 200:  # an interim answer; the real one follows
            self.headers = {}
            return
        self._done = self.framed = self._failure is None
        self._last = self._last or not self._parser.should_keep_alive()
        self._wake()
