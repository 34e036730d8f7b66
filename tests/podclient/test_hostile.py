"""Broken and malicious pods."""

from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from session_manager.domain.errors import PodBusy, PodDied, PodMisdirected, PodRejected, PodUnreachable
from session_manager.podclient import gateway
from session_manager.runtime.protocol import PodAddress
from tests.podclient.conftest import Ask
from tests.podclient.raw import Behaviour, Exchange, RawPod, raw_pod
from tests.waiting import until


def sending(data: bytes, then: str = "hang_up") -> Behaviour:
    async def send(exchange: Exchange) -> None:
        await exchange.send(data)
        if then == "wait":
            await exchange.reader.read()
        getattr(exchange, "reset" if then == "reset" else "hang_up")()

    return send


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirects_are_not_followed(ask: Ask, status: int) -> None:
    async with raw_pod(lambda exchange: exchange.answer(b"{}")) as elsewhere:
        location = f"Location: http://127.0.0.1:{elsewhere.address.port}/chat\r\n"
        async with raw_pod(lambda exchange: exchange.answer(b"", status=f"{status} X", more=location)) as pod:
            with pytest.raises(PodRejected, match=f"the pod answered {status}, a redirect"):
                await ask(pod)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("500 X", b'{"error": "no key"}', "the pod answered 500: no key"),
        ("400 X", b'{"detail": "bad\\r\\n\\u0000thing"}', "the pod answered 400: bad thing"),
        ("404 X", b"<html>" + b"x" * 5000, "the pod answered 404: <html>" + "x" * 194),
        ("502 X", b"", "the pod answered 502"),
        ("500 X", b"\xff\xfe", "the pod answered 500"),
        ("600 X", b"{}", "the pod answered 600: {}"),
    ],
)
async def test_errors_are_reported_with_a_short_excerpt(ask: Ask, status: str, body: bytes, words: str) -> None:
    async with raw_pod(lambda exchange: exchange.answer(body, status=status)) as pod:
        with pytest.raises(PodRejected) as caught:
            await ask(pod)
    assert caught.value.detail == words


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 1.0),
        ("Retry-After: 7\r\n", 7.0),
        ("Retry-After: 0\r\n", 0.1),
        ("Retry-After: 99999999999999999999\r\n", 30.0),
        ("Retry-After: -5\r\n", 1.0),
        ("Retry-After: 1e9\r\n", 1.0),
        ("Retry-After: \xb2\r\n", 1.0),
        ("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 0.1),
        (f"Retry-After: {format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)}\r\n", 30.0),
    ],
    ids=["none", "7", "0", "huge", "negative", "float", "no digit", "past", "tomorrow"],
)
async def test_a_busy_pod_says_when_to_retry(ask: Ask, header: str, seconds: float) -> None:
    data = f"HTTP/1.1 503 X\r\nContent-Length: 0\r\n{header}\r\n".encode("latin-1")
    async with raw_pod(sending(data)) as pod:
        with pytest.raises(PodBusy) as caught:
            await ask(pod)
    assert caught.value.retry_after == seconds


async def test_a_pod_of_another_session(ask: Ask) -> None:
    async with raw_pod(lambda exchange: exchange.answer(b"", status="421 X")) as pod:
        with pytest.raises(PodMisdirected):
            await ask(pod)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nBroken\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x00\x01",
    ],
)
@pytest.mark.parametrize("then", ["hang_up", "wait"])
async def test_garbage(ask: Ask, data: bytes, then: str) -> None:
    async with raw_pod(sending(data, then)) as pod:
        with pytest.raises(PodRejected, match="the pod's answer is not HTTP"):
            await ask(pod)
        await until(lambda: pod.open == 0)


@pytest.mark.parametrize("then", ["hang_up", "reset"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTT",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"a": 1}',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"a": 1}\r\n',
        b'HTTP/1.1 200 OK\r\n\r\n{"a": 1',
        b"HTTP/1.1 200 OK\r\n\r\nhalf a sen",
    ],
)
async def test_an_incomplete_answer_is_a_death(ask: Ask, data: bytes, then: str) -> None:
    async with raw_pod(sending(data, then)) as pod:
        with pytest.raises(PodDied):
            await ask(pod)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHello",
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: Hello\n\n",
    ],
    ids=["a text", "a stream"],
)
async def test_an_answer_without_a_declared_end_says_what_to_declare(ask: Ask, data: bytes) -> None:
    async def ignore(_: str) -> None: ...

    async with raw_pod(sending(data)) as pod:
        with pytest.raises(PodDied) as caught:
            await ask(pod, on_delta=ignore)
    assert caught.value.detail == (
        "the answer ended with the connection, so it may have been cut short; "
        "a pod must declare the end of its answer by Content-Length or Transfer-Encoding: chunked"
    )


async def test_json_may_end_with_the_connection(ask: Ask) -> None:
    async with raw_pod(sending(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}')) as pod:
        assert await ask(pod) == '{"a": 1}'


async def test_interim_answers_are_ignored(ask: Ask) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nContent-Encoding: gzip\r\n\r\n")
        await exchange.answer(b'{"a": 1}')

    async with raw_pod(answer) as pod:
        assert await ask(pod) == '{"a": 1}'


async def test_a_late_second_answer_is_not_taken_for_the_answer_to_the_next_message(ask: Ask) -> None:
    answered, smuggled = asyncio.Event(), asyncio.Event()

    async def twice(exchange: Exchange) -> None:
        await exchange.answer(b'{"number": %d}' % exchange.number)
        await answered.wait()
        await exchange.answer(b'{"smuggled": 1}')
        smuggled.set()

    async with raw_pod(twice) as pod:
        assert await ask(pod) == '{"number": 1}'
        answered.set()
        await smuggled.wait()
        assert await ask(pod) == '{"number": 2}'


async def test_two_answers_in_one_piece(ask: Ask) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    async with raw_pod(lambda exchange: exchange.send(answer + answer.replace(b"200", b"500"))) as pod:
        assert await ask(pod) == "{}"
        assert await ask(pod) == "{}"
        assert pod.connections == 2


async def test_compressed_answers_are_rejected_unread(ask: Ask) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    async with raw_pod(lambda exchange: exchange.answer(bomb, more="Content-Encoding: gzip\r\n")) as pod:
        with pytest.raises(PodRejected, match="compressed"):
            await ask(pod)


FLOODS = {
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", b"x" * 65536),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "to the end": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "an error": (b"HTTP/1.1 500 X\r\nContent-Length: 1073741824\r\n\r\n", b"x" * 65536),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    "the status": (b"HTTP/1.1 200 ", b"x" * 65536),
    "interim answers": (b"", b"HTTP/1.1 102 X\r\n\r\n" * 4000),
    "a trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: ", b"x" * 65536),
    "the length of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_gibibyte_is_cut_off_early(ask: Ask, flood: str) -> None:
    head, piece = FLOODS[flood]
    sent = 0

    async def send(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(head)
        while sent < 2**30:
            await exchange.send(piece)
            sent += len(piece)

    async with raw_pod(send) as pod:
        tracemalloc.start()
        try:
            with pytest.raises(PodRejected):
                await ask(pod)
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
        finally:
            tracemalloc.stop()
        await until(lambda: pod.open == 0)
    assert sent < 30 * 2**20


async def test_a_pod_that_never_answers_sees_the_caller_give_up(ask: Ask) -> None:
    for data in (b"", b"HTTP/1.1 200 OK\r\nX: slow", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"):
        async with raw_pod(sending(data, "wait")) as pod:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await ask(pod)
            await until(lambda: pod.connections == 1 and pod.open == 0)


async def test_a_pod_that_does_not_exist(ask: Ask) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pod = RawPod(PodAddress("127.0.0.1", taken.getsockname()[1], str(uuid.uuid4())))
        with pytest.raises(PodUnreachable):
            await ask(pod)


async def test_a_pod_that_does_not_accept(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "CONNECT_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        ip, port = full.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex((ip, port))
        try:
            with pytest.raises(PodUnreachable):
                await ask(RawPod(PodAddress(ip, port, str(uuid.uuid4()))))
        finally:
            for each in filling:
                each.close()
