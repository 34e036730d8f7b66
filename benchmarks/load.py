"""The load: raw HTTP/1.1 over asyncio, one request in flight per connection, cheap enough not to dominate the figures.

Requests are prepared bytes.  Only the status and the length of an answer are read.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
Meter = Callable[[], float]
GIVE_UP = 30.0  # seconds after the end within which the last answers may arrive


@dataclass(slots=True)
class Sample:
    """The answers within ``window`` seconds: the duration of each 200, and the number of ``other`` answers.

    ``used``: the increase of each meter in that time.
    """

    window: float
    seconds: list[float] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    used: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return the answers per second."""
        return len(self.seconds) / self.window

    def quantile(self, part: float) -> float:
        """Return the seconds within which this ``part`` of the answers arrived."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class _Caller(asyncio.Protocol):
    """Send one request after the other on one connection, until ``until`` on the clock of perf_counter."""

    def __init__(self, requests: Sequence[bytes], sample: Sample, since: float, until: float) -> None:
        self._requests = itertools.cycle(requests)
        self._sample = sample
        self._since = since
        self._until = until
        self._received = b""
        self._began = 0.0
        self._transport: asyncio.Transport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._began = perf_counter()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end) if end >= 0 else None
        if length is None or len(data) < end + 4 + int(length[1]):
            self._received = data
            return
        self._received = b""
        now = perf_counter()
        if now >= self._since:
            self._note(data, now)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def _note(self, data: bytes, now: float) -> None:
        if data[9:12] != b"200":
            self._sample.other[data[9:12].decode("latin-1")] += 1
        elif now < self._until:
            self._sample.seconds.append(now - self._began)

    def connection_lost(self, error: Exception | None) -> None:
        if perf_counter() < self._until:
            self._sample.other["connection lost"] += 1
        if not self.done.done():
            self.done.set_result(None)


async def run(
    port: int,
    requests: Sequence[Sequence[bytes]],
    seconds: float,
    meters: Sequence[Meter] = (),
    warm_up: float = 0.5,
) -> Sample:
    """Load 127.0.0.1:``port`` with one connection for each of ``requests``, which it repeats in a circle."""
    since = perf_counter() + warm_up
    sample = Sample(seconds)
    callers = [await _connect(port, own, sample, since) for own in requests]
    await asyncio.sleep(since - perf_counter())
    before = [meter() for meter in meters]
    await asyncio.sleep(since + seconds - perf_counter())
    sample.used = [meter() - first for meter, first in zip(meters, before, strict=True)]
    async with asyncio.timeout(GIVE_UP):
        await asyncio.gather(*(caller.done for caller in callers))
    return sample


async def _connect(port: int, requests: Sequence[bytes], sample: Sample, since: float) -> _Caller:
    def caller() -> _Caller:
        return _Caller(requests, sample, since, since + sample.window)

    _, connected = await asyncio.get_running_loop().create_connection(caller, "127.0.0.1", port)
    return connected


def get(path: str, **headers: str) -> bytes:
    """Return a complete request. An underscore in a header's name stands for a hyphen."""
    return _head("GET", path, headers) + b"\r\n"


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Return a complete request with a JSON body."""
    head = _head("POST", path, {"Content_Type": "application/json", **headers})
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}".encode()
