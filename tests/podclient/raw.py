"""A pod that answers each request with exactly the bytes that a test says."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from session_manager.runtime.protocol import PodAddress

Behaviour = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """One request, and ways to answer it. ``number``: that of the connection, from 1."""

    request: Request
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, kind: str = "application/json", status: str = "200 OK", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        await self.send(head.encode() + body)

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class RawPod:
    address: PodAddress
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0


@asynccontextmanager
async def raw_pod(behaviour: Behaviour) -> AsyncIterator[RawPod]:
    pod = RawPod(PodAddress("127.0.0.1", 0, str(uuid.uuid4())))
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pod.connections += 1
        pod.open += 1
        number = pod.connections
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    request = await read_request(reader)
                    pod.requests.append(request)
                    await behaviour(Exchange(request, reader, writer, number))
        finally:
            pod.open -= 1

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        task.add_done_callback(lambda _: writer.transport.abort())  # also if it was cancelled before it began
        serving.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
    pod.address = PodAddress("127.0.0.1", server.sockets[0].getsockname()[1], pod.address.uid)
    try:
        yield pod
    finally:
        server.close()
        await server.wait_closed()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> Request:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")
    headers = dict(each.split(": ", 1) for each in lines)
    body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    return Request(line, headers, body)
