"""Replies as server-sent events."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain.errors import PodDied, PodRejected
from session_manager.podclient import streams
from session_manager.podclient.streams import MAX_EVENT, EventParser
from tests.podclient.conftest import Ask
from tests.podclient.raw import Behaviour, Exchange, raw_pod
from tests.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(*pieces: bytes, end: bytes = END) -> Behaviour:
    async def stream(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        for piece in pieces:
            await exchange.send(chunk(piece))
        await exchange.send(end)

    return stream


class Deltas(list[str]):
    async def __call__(self, data: str) -> None:
        self.append(data)


@pytest.mark.parametrize(
    ("events", "deltas", "response"),
    [
        (
            b'event: delta\ndata: {"text": "a"}\n\nevent: delta\ndata: "b"\n\n',
            ['{"text": "a"}', '"b"'],
            '{"reply":"ab"}',
        ),
        (b'event: delta\ndata: {"x": 1}\n\nevent: reply\ndata: {"y": 2}\n\n', ['{"x": 1}'], '{"y": 2}'),
        (b"data: no json\n\n", ['{"text":"no json"}'], '{"reply":"no json"}'),
        (b"event: reply\ndata: Hi\n\n", [], '{"reply":"Hi"}'),
        (b'event: reply\ndata: {"a": 1}\n\nevent: delta\ndata: 1\n\nevent: error\ndata: x\n\n', [], '{"a": 1}'),
        (b"", [], '{"reply":""}'),
        (b": ping\n\nevent: other\ndata: x\n\nid: 5\nretry: 1\n\nevent: delta\n\n", [], '{"reply":""}'),
        (b'\r\nevent:delta\r\ndata:"a"\r\n\r\nevent: delta\rdata: "b"\r\r', ['"a"', '"b"'], '{"reply":"ab"}'),
        (b'event: delta\ndata: {"text":\ndata: "a"}\n\n', ['{"text": "a"}'], '{"reply":"a"}'),
        (b'event: reply\ndata: {"unended": 1}', [], '{"unended": 1}'),
        (b'event: delta\ndata: "\\ud800\xff"\n\n', ['"\ufffd\ufffd"'], '{"reply":"\ufffd\ufffd"}'),
        (b'event: delta\ndata: {"text": 5}\n\nevent: delta\ndata: null\n\n', ['{"text": 5}', "null"], '{"reply":""}'),
    ],
)
async def test_streams(ask: Ask, events: bytes, deltas: list[str], response: str) -> None:
    for pieces in ([events] if events else [], [events[at : at + 1] for at in range(len(events))]):
        seen = Deltas()
        async with raw_pod(streaming(*pieces)) as pod:
            assert await ask(pod, on_delta=seen) == response
            assert seen == deltas
            await ask(pod, on_delta=seen)
            assert pod.connections == 1


async def test_deltas_arrive_before_the_stream_ends(ask: Ask) -> None:
    seen = Deltas()

    async def stream(exchange: Exchange) -> None:
        await exchange.send(HEAD + chunk(b'data: "a"\n\n'))
        await until(lambda: seen)
        await exchange.send(END)

    async with raw_pod(stream) as pod:
        await ask(pod, on_delta=seen)
    assert seen == ['"a"']


@pytest.mark.parametrize(
    ("data", "words"), [(b'{"error": "no\\nkey"}', "no key"), (b"plain", "plain"), (b'{"x": 1}', '{"x": 1}')]
)
async def test_an_error_in_a_stream(ask: Ask, data: bytes, words: str) -> None:
    async with raw_pod(streaming(b'data: "a"\n\n', b"event: error\ndata: " + data + b"\n\n")) as pod:
        with pytest.raises(PodRejected, match="ended with an error: ") as caught:
            await ask(pod, on_delta=Deltas())
    assert caught.value.detail.endswith(words)


@pytest.mark.parametrize("end", [chunk(b"event: del"), b"", b"5\r\nab"])
async def test_a_stream_that_breaks_off(ask: Ask, end: bytes) -> None:
    async def stream(exchange: Exchange) -> None:
        await streaming(b'data: "a"\n\n', end=end)(exchange)
        exchange.hang_up()

    seen = Deltas()
    async with raw_pod(stream) as pod:
        with pytest.raises(PodDied):
            await ask(pod, on_delta=seen)
    assert seen == ['"a"']


async def test_a_stream_without_chunks_needs_a_reply(ask: Ask) -> None:
    """It ends with the connection, like the stream of a pod that died."""
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    body = b'data: "a"\n\n'

    async def stream(exchange: Exchange) -> None:
        await exchange.send(head + body)
        exchange.hang_up()

    async with raw_pod(stream) as pod:
        with pytest.raises(PodDied):
            await ask(pod, on_delta=Deltas())
        body += b"event: reply\ndata: {}\n\n"
        assert await ask(pod, on_delta=Deltas()) == "{}"


async def test_a_pod_that_does_not_end_its_stream_after_the_reply(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LINGER", 0.05)
    async with raw_pod(streaming(b"event: reply\ndata: {}\n\n", end=b"")) as pod:
        assert await ask(pod) == "{}"
        await until(lambda: pod.open == 0)


async def test_a_pod_that_dies_after_the_reply(ask: Ask) -> None:
    async def stream(exchange: Exchange) -> None:
        await streaming(b"event: reply\ndata: {}\n\n", end=b"")(exchange)
        exchange.hang_up()

    async with raw_pod(stream) as pod:
        assert await ask(pod) == "{}"


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000 + b"\n", b": " + b"x" * 1000 + b"\n", b"x" * 1000])
async def test_an_endless_event(ask: Ask, line: bytes) -> None:
    async def stream(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        while True:
            await exchange.send(chunk(line * 100))

    async with raw_pod(stream) as pod:
        with pytest.raises(PodRejected, match="an event of the pod's stream is longer than 1048576 bytes"):
            await ask(pod, on_delta=Deltas())
        await until(lambda: pod.open == 0)


async def test_an_event_of_almost_a_mebibyte(ask: Ask) -> None:
    data = json.dumps("x" * (MAX_EVENT - 100)).encode()
    seen = Deltas()
    async with raw_pod(streaming(b"data: " + data + b"\n\n")) as pod:
        await ask(pod, on_delta=seen)
    assert seen == [data.decode()]


async def test_a_reply_in_a_stream_may_be_as_long_as_any(ask: Ask) -> None:
    text = "x" * (3 * MAX_EVENT)
    piece = json.dumps({"text": text[: MAX_EVENT // 2]}).encode()
    reply = json.dumps({"reply": text}).encode()
    sent = b"data: " + piece + b"\n\nevent: reply\ndata: " + reply + b"\n\n"
    async with raw_pod(streaming(sent)) as pod:
        assert json.loads(await ask(pod, on_delta=Deltas())) == {"reply": text}


async def test_endless_deltas(ask: Ask) -> None:
    async def stream(exchange: Exchange) -> None:
        await exchange.send(HEAD)
        while True:
            await exchange.send(chunk(b'data: "' + b"x" * 1_000_000 + b'"\n\n'))

    async def drop(data: str) -> None:
        pass

    async with raw_pod(stream) as pod:
        with pytest.raises(PodRejected, match="reply is longer than 8388608 bytes"):
            await ask(pod, on_delta=drop)


async def test_a_slow_reader_holds_the_pod_up(ask: Ask) -> None:
    """The pod has to wait, and this process does not buffer everything."""
    sent = 0
    total = 400
    release = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(HEAD)
        for _ in range(total):
            await exchange.send(chunk(b": " + b"x" * 100_000 + b"\n" + b"data: 1\n\n"))
            sent += 1
        await exchange.send(END)

    async def wait(data: str) -> None:
        await release.wait()

    async with raw_pod(stream) as pod:
        asking = asyncio.create_task(ask(pod, on_delta=wait))
        seen: list[int] = []

        def stands_still() -> bool:
            seen.append(sent)
            return sent > 0 and len(seen) > 20 and len(set(seen[-20:])) == 1

        await until(stands_still)
        assert sent < total / 2
        release.set()
        assert await asking == '{"reply":""}'
        assert sent == total


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1)),
    st.integers(1, 7),
    st.sampled_from(["\n", "\r", "\r\n"]),
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(datas: list[str], size: int, line_end: str) -> None:
    stream = "".join(f"event: e{line_end}data: {data}{line_end}{line_end}" for data in datas).encode()
    parser = EventParser()
    found = [event for at in range(0, len(stream), size) for event in parser.feed(stream[at : at + size])]
    assert found == [("e", data) for data in datas]
