"""One client's connection to the embedded Redis.

Commands run in the order in which they came, and replies of one turn of the loop leave in one write.  A pipeline of a
thousand commands lets others in after every few; a client that does not read its replies gets no more commands run.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import hiredis
from fakeredis._helpers import SimpleError

from session_manager.activity.embedded.engine import Client, Engine
from session_manager.activity.embedded.replies import encode

log = logging.getLogger(__name__)

BATCH = 16  # commands of one connection before others get their turn
MAX_UNREAD = 32 * 1024 * 1024  # bytes of messages for a subscriber that does not read; then it is disconnected
MAX_BEFORE_PASSWORD = 16 * 1024  # bytes

_INCOMPLETE = object()


class Connection(asyncio.Protocol):
    """``connections`` holds all that are open."""

    def __init__(self, engine: Engine, connections: set[Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections = connections
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._client = Client(engine, self._reply, self._serve_soon)
        self._replies: list[bytes] = []
        self._received = 0
        self._scheduled = False
        self._writable = True
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._client.close()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if not self._scheduled:
            self._serve()
        self._received += len(data)
        if self._received > MAX_BEFORE_PASSWORD and not self._client.authenticated:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._serve_soon()

    def close(self) -> None:
        self._transport.close()

    def _serve_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Run a batch of commands; read on only when none is left."""
        self._scheduled = False
        try:
            done = self._run_batch()
        except (hiredis.ProtocolError, ValueError) as error:
            self._reply(SimpleError(f"ERR Protocol error: {error}"))
            self._flush()
            self._transport.close()
            return
        self._flush()
        if self._client.killed:
            self._transport.close()
        elif done:
            self._transport.resume_reading()
        elif not self._client.blocked:  # a client that blocks is read on: it may hang up
            self._transport.pause_reading()
            if self._writable:
                self._serve_soon()

    def _run_batch(self) -> bool:
        """Return True if no complete command is left."""
        for _ in range(BATCH):
            if not self._writable or self._client.blocked or self._client.killed:
                return False
            command = self._reader.gets()
            if command is _INCOMPLETE:
                return True
            self._run(command)
        return False

    def _run(self, command: Any) -> None:
        if not isinstance(command, list) or not all(isinstance(part, bytes) for part in command):
            raise ValueError("expected an array of bulk strings")
        if not command:
            return
        try:
            self._client.process(command)
        except Exception:
            log.exception("%s failed", command[0][:32])
            self._reply(SimpleError("ERR internal error: see redis.log"))

    def _reply(self, value: Any) -> None:
        data = encode(value, self._client.protocol)
        if not self._replies:
            self._loop.call_soon(self._flush)
        self._replies.append(data)

    def _flush(self) -> None:
        if not self._replies:
            return
        data = b"".join(self._replies)
        self._replies.clear()
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            log.warning("a client does not read its messages: disconnected")
            self._transport.abort()
