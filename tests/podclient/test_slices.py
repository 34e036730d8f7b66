"""A pod that sends a great deal in tiny pieces is served a slice at a time, and has to wait in between."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.aio.beside import AT_ONCE
from session_manager.aio.pace import Pace
from session_manager.domain.errors import PodFailure, PodRejected
from session_manager.podclient import connection as connections
from session_manager.podclient import replies, streams
from session_manager.podclient.connection import SLICE, PodConnection
from session_manager.podclient.streams import Deltas, events_of
from tests.podclient.conftest import Ask
from tests.podclient.raw import Exchange, raw_pod

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


@dataclass
class Socket:
    """The transport of a connection whose bytes a test hands over. ``log`` has what was asked of it."""

    real: socket.socket = field(default_factory=socket.socket)
    log: list[str] = field(default_factory=list)
    closing: bool = False

    def get_extra_info(self, name: str) -> socket.socket:
        return self.real

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")

    def abort(self) -> None:
        self.closing = True


@dataclass
class Later:
    """Stands in for ``loop.call_later``: keeps the call until the test lets the time pass."""

    pauses: list[float] = field(default_factory=list)
    calls: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, pause: float, call: Callable[[], None], *args: Any) -> asyncio.TimerHandle:
        self.pauses.append(pause)
        self.calls.append(call)
        loop = asyncio.get_running_loop()
        return asyncio.TimerHandle(loop.time() + pause, call, (), loop)


@pytest.fixture
def transport() -> Iterator[Socket]:
    transport = Socket()
    yield transport
    transport.real.close()


def connected(transport: Socket) -> PodConnection:
    connection = PodConnection()
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.send(b"")
    return connection


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to wait for its pace, so that only slices divide the work."""
    for module, name in ((connections, "PIECES"), (streams, "LINES"), (streams, "DELTAS")):
        monkeypatch.setattr(module, name, 1e12)


@pytest.mark.parametrize("head", [STREAM, CHUNKED], ids=["a stream", "a reply"])
async def test_others_are_served_after_each_slice_of_tiny_chunks(unhurried: None, transport: Socket, head: bytes):
    connection = connected(transport)
    connection.data_received(head + b"1\r\n:\r\n" * 100_000 + END)
    assert transport.log == ["pause"]
    turns = 0
    while not connection._done:
        seen = len(connection.body) + connection._unread
        await asyncio.sleep(0)
        turns += 1
        assert len(connection.body) + connection._unread - seen <= SLICE // 6 + 1
    assert turns >= 600_000 // SLICE
    assert (connection.framed, len(connection.body) + connection._unread) == (True, 100_000)


async def test_chunks_are_joined(unhurried: None, transport: Socket):
    connection = connected(transport)
    connection.data_received(STREAM + b"1\r\n:\r\n" * 1000)
    assert await connection.chunk() == b":" * 1000


async def test_the_reader_of_a_stream_gets_a_slice_at_a_time(unhurried: None, transport: Socket):
    connection = connected(transport)
    connection.data_received(STREAM + b"%x\r\n" % 600_000)
    for _ in range(20):
        connection.data_received(b": xx\n\n" * 5_000)
    connection.data_received(b"\r\n" + END)
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await asyncio.sleep(0)
            steps += 1

    counting = asyncio.create_task(count())
    assert [event async for event in events_of(connection)] == []
    counting.cancel()
    assert steps >= 600_000 // (2 * SLICE)


async def test_a_pod_waits_once_its_pieces_are_too_many(transport: Socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "PIECES", 100)
    monkeypatch.setattr(connections, "PIECES_AT_ONCE", 50)
    connection = connected(transport)
    later = Later()
    monkeypatch.setattr(connection._loop, "call_later", later)
    connection.data_received(STREAM + b"1\r\n:\r\n" * 40)
    assert (transport.log, later.pauses) == ([], [])
    connection.data_received(b"1\r\n:\r\n" * 210)
    assert transport.log == ["pause"]
    assert later.pauses == [pytest.approx(2.0, abs=0.1)]
    connection.data_received(b"1\r\n:\r\n" * 10)  # what the transport had read before
    assert connection._unread == 250
    later.calls.pop()()
    assert connection._unread == 260
    assert len(later.calls) == 1
    later.calls.pop()()
    assert transport.log == ["pause", "resume"]
    connection.data_received(b"1\r\n:\r\n" * 4 + END)
    assert (await connection.chunk(), connection._done) == (b":" * 264, True)


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_a_connection_that_is_lost_before_all_of_the_answer_was_parsed(
    unhurried: None, transport: Socket, error: Exception | None
):
    connection = connected(transport)
    connection.data_received(CHUNKED + b"1\r\n:\r\n" * 10_000 + END)
    connection.connection_lost(error)
    await connection.answer()
    assert len(connection.body) == 10_000
    assert not connection.reusable


async def test_bytes_after_the_answer_spoil_the_connection_also_in_a_later_slice(unhurried: None, transport: Socket):
    connection = connected(transport)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    connection.data_received(answer + b" " * SLICE + answer)
    await connection.answer()
    assert not connection.reusable


async def test_the_bytes_of_a_stream_are_bounded(ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "MAX_ANSWER", 2**20)

    async def stream(exchange: Exchange) -> None:
        await exchange.send(STREAM)
        while True:
            await exchange.send(b"1000\r\n: " + b"x" * 4092 + b"\n\n\r\n")

    async with raw_pod(stream) as pod:
        with pytest.raises(PodRejected, match="the pod's answer is longer than 1048576 bytes with its chunks"):
            await ask(pod)


async def test_the_deltas_of_a_stream_are_bounded(unhurried: None, ask: Ask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "MOST_DELTAS", 100)
    seen: list[str] = []

    async def keep(data: str) -> None:
        seen.append(data)

    async def stream(exchange: Exchange) -> None:
        await exchange.send(STREAM)
        while True:
            await exchange.send(b"8\r\ndata:1\n\n\r\n")

    async with raw_pod(stream) as pod:
        with pytest.raises(PodRejected, match="the pod's stream has more than 100 deltas"):
            await ask(pod, on_delta=keep)
    assert seen == ["1"] * 100


@pytest.mark.parametrize(("data", "pauses"), [("1", 2), ("x" * 10 * streams.DELTA, 5)], ids=["short", "long"])
async def test_deltas_come_at_a_pace(monkeypatch: pytest.MonkeyPatch, data: str, pauses: int):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def listen(_: str) -> None: ...

    monkeypatch.setattr(streams, "DELTAS", 10)
    monkeypatch.setattr(streams, "DELTAS_AT_ONCE", 3)
    monkeypatch.setattr("asyncio.sleep", sleep)
    deltas = Deltas(listen)
    for _ in range(5):
        await deltas(data)
    assert len(slept) == pauses


def test_a_pace_allows_a_burst_and_then_its_rate():
    pace = Pace(rate=10, burst=5)
    assert [round(pace.spend(1, 0.0), 6) for _ in range(7)] == [0, 0, 0, 0, 0, 0.1, 0.2]
    assert pace.spend(1, 0.3) == 0
    assert pace.spend(6, 1000.0) == pytest.approx(0.1)


@pytest.mark.parametrize("size", [100, AT_ONCE + 100])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_long_json_is_parsed_beside_the_event_loop(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, size: int, kind: str
):
    threads: list[threading.Thread] = []
    parse = replies.json_text

    def noting(body: bytes) -> Any:
        threads.append(threading.current_thread())
        return parse(body)

    monkeypatch.setattr(replies, "json_text", noting)
    body = b'{"a": "%b"}' % (b"x" * size)
    event = b"event: reply\ndata: " + body + b"\n\n"
    async with raw_pod(lambda exchange: exchange.answer(event if kind.startswith("text/") else body, kind)) as pod:
        assert await ask(pod) == body.decode()
    [thread] = threads
    assert (thread is threading.main_thread()) == (size < AT_ONCE)


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        (b"[" + b",".join([b"{}"] * 200_000) + b"]", "at most 100000 values"),
        (b'{"a": [' + b"1," * 100_000 + b"1]}", "at most 100000 values"),
        (b"[" + b"7" * 50_000 + b"]", "at most 40000 digits in numbers of 20 digits or more"),
    ],
)
async def test_a_reply_that_would_take_long_to_parse(ask: Ask, body: bytes, bound: str):
    async with raw_pod(lambda exchange: exchange.answer(body)) as pod:
        with pytest.raises(PodRejected) as caught:
            await ask(pod)
    assert caught.value.detail == f"JSON of the pod must have {bound}"


async def test_a_text_may_have_any_number_of_commas(ask: Ask):
    text = "a, [b], {c}" * 200_000
    async with raw_pod(lambda exchange: exchange.answer(text.encode(), "text/plain")) as pod:
        assert await ask(pod) == f'{{"reply":"{text}"}}'


ANSWERS = st.sampled_from(
    [
        STREAM,
        CHUNKED,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 102 Wait\r\n\r\n",
        b"HTTP/1.1 500 X\r\nRetry-After: 3\r\n\r\n",
        b"5\r\nab\ncd\r\n",
        b"a\r\ndata: 1\n\n\r\n",
        b"data: x\n\n",
        b"\r\n",
        b"\n",
        b"X: y\r\n",
        END,
        b"0\r\nTrailer: 1\r\n\r\n",
    ]
) | st.binary(max_size=8)


@given(
    st.lists(ANSWERS, max_size=8).map(b"".join), st.lists(st.integers(1, 40), max_size=30), st.sampled_from([7, SLICE])
)
async def test_an_answer_does_not_depend_on_how_its_bytes_are_cut(data: bytes, cuts: list[int], size: int):
    whole = await _outcome([data], SLICE)
    at, pieces = 0, []
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    assert await _outcome([*filter(None, pieces), data[at:]], size) == whole


async def _outcome(pieces: list[bytes], size: int) -> object:
    transport = Socket()
    connection = connected(transport)
    with pytest.MonkeyPatch.context() as patch, transport.real:
        patch.setattr(connections, "SLICE", size)
        for piece in pieces:
            if not transport.closing:
                connection.data_received(piece)
        connection.connection_lost(None)
        try:
            await connection.answer()
            events = [event async for event in events_of(connection)] if connection.streams else None
        except PodFailure as failure:
            return type(failure), failure.detail
    return connection.status, connection.headers, bytes(connection.body), connection.framed, events
