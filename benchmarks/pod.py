"""The pod behind every peer: an echo as cheap as Python can make it, so that it is never the bottleneck.

One process answers for all sessions.  ``python -m benchmarks.pod PORT``
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import orjson
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class Echo(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while received:
            end = received.find(b"\r\n\r\n")
            length = content_length(received, end) if end >= 0 else 0
            if end < 0 or len(received) < end + 4 + length:
                break
            self._transport.write(_answer(received[end + 4 : end + 4 + length]))
            received = received[end + 4 + length :]
        self._received = received


def content_length(received: bytes, end: int) -> int:
    """Return the Content-Length of a head that ends at ``end``, or 0 without one."""
    head = received[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    return int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def _answer(body: bytes) -> bytes:
    text = orjson.loads(body)["message"] if body else "nothing"
    reply = orjson.dumps({"reply": "You said: " + text})
    return HEAD % len(reply) + reply


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
