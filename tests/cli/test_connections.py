"""Connections of hostile clients, which send slowly, endlessly, or something that is not HTTP."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.cli.program import PATIENCE, FrontDoor

HEAD = b"POST /session/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

CHUNKED = b'Transfer-Encoding: chunked\r\n\r\n11\r\n{"user_id":"ada"}\r\n0\r\n\r\n'


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    door = FrontDoor("dev", tmp_path_factory.mktemp("dev"), REQUEST_TIMEOUT="0.3", KEEP_ALIVE_TIMEOUT="600")
    yield door
    assert door.stop() == 0
    assert "Traceback" not in door.err


def connect(front: FrontDoor) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(front.url.rpartition(":")[2])), timeout=PATIENCE)


def answer(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    with connection:
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def assert_problem(reply: bytes, status: int) -> None:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), reply
    assert b"application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /livez HT", id="half a line"),
        pytest.param(HEAD + b"X-Slow: ", id="half a head"),
        pytest.param(HEAD + b'Content-Length: 100\r\n\r\n{"user', id="half a body"),
        pytest.param(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"use', id="half a chunk"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ", id="half a trailer"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HT", id="half a second request"),
    ],
)
def test_half_a_request_times_out(front, sent):
    connection = connect(front)
    connection.sendall(sent)
    reply = answer(connection)
    assert_problem(reply[reply.rfind(b"HTTP/1.1 ") :], 408)


def test_a_silent_connection_is_closed_without_an_answer(front):
    assert answer(connect(front)) == b""


def test_empty_lines_do_not_extend_the_timeout(front):
    with connect(front) as connection, suppress(OSError):  # it hangs up
        while True:
            connection.sendall(b"\r\n")


def test_a_request_may_arrive_byte_by_byte(front):
    connection = connect(front)
    for each in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n":
        connection.sendall(bytes([each]))
    assert answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_turn_may_take_longer_than_the_request_timeout(front):
    session = front.create()
    sent = json.dumps({"message": "wait"}).encode()
    connection = connect(front)
    head = HEAD.decode().replace("create", f"{session}/chat") + "Prefer: wait=1\r\nConnection: close\r\n"
    connection.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    assert b" 202 " in answer(connection).partition(b"\r\n")[0]
    front.go_on(session)


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        pytest.param(b"GET /livez?", b"a" * 65_536, id="path"),
        pytest.param(HEAD + b"X-Long: ", b"a" * 65_536, id="header"),
        pytest.param(HEAD, b"X-Many: a\r\n" * 6_000, id="headers"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Many: a\r\n" * 6_000, id="trailers"),
    ],
)
def test_an_endless_head_is_rejected(front, begin, piece):
    with connect(front) as connection, suppress(OSError):  # it hangs up
        connection.sendall(begin)
        for _ in range(1000):
            connection.sendall(piece)
        pytest.fail("all of it was taken")


def test_a_long_head_is_rejected(front):
    connection = connect(front)
    connection.sendall(HEAD + b"X-Long: ")
    for _ in range(16):  # no more than what is read before it hangs up, or the answer would be lost
        connection.sendall(b"a" * 4096)
    assert_problem(answer(connection), 431)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\0\1\2\3\r\n\r\n", id="bytes"),
        pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", id="two lengths"),
        pytest.param(
            HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="length and chunks"
        ),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n", id="size of a chunk"),
        pytest.param(HEAD + b"Content-Length: -2\r\n\r\n{}", id="negative length"),
        pytest.param(HEAD + b"X-User-Id : eve\r\n\r\n", id="space before a colon"),
        pytest.param(HEAD + b"X-User-Id: ada\r\n eve\r\n\r\n", id="folded line"),
        pytest.param(HEAD + b"X User-Id: eve\r\n\r\n", id="space in a name"),
        pytest.param(HEAD + b": eve\r\n\r\n", id="no name"),
        pytest.param(HEAD + b"X-User-Id: ad\0a\r\n\r\n", id="NUL"),
        pytest.param(HEAD + b"X-User-Id: a\rX-User-Id: eve\r\n\r\n", id="bare carriage return"),
        pytest.param(HEAD + b"X-User-Id: a\nX-User-Id: eve\n\n", id="bare line feed"),
        pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", id="the same length twice"),
        pytest.param(HEAD + b"Content-Length: 2, 2\r\n\r\n{}", id="list of lengths"),
        pytest.param(HEAD + b"Content-Length: +2\r\n\r\n{}", id="sign of a length"),
        pytest.param(HEAD + b"Content-Length: 0x2\r\n\r\n{}", id="hexadecimal length"),
        pytest.param(HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}", id="endless length"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", id="two codings"
        ),
        pytest.param(HEAD + b"Transfer-Encoding: gzip\r\n" + CHUNKED, id="codings in two lines"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n" + CHUNKED, id="a coding twice"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", id="chunk with a line feed"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", id="length in a trailer"
        ),
        pytest.param(HEAD + b'Transfer-Encoding: chunked\r\n\r\n2;a="b\r\n{}\r\n0\r\n\r\n', id="open quote in a chunk"),
        pytest.param(
            b"POST /session/create HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunks of HTTP/1.0"
        ),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", id="no host"),
        pytest.param(HEAD + b"Host: other\r\n\r\n", id="two hosts"),
        pytest.param(b"GET http://other/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", id="another host in the target"),
        pytest.param(b"GET http://a@localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", id="user in the target"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="preface of HTTP/2"),
    ],
)
def test_invalid_http_is_a_problem_document_too(front, sent):
    connection = connect(front)
    connection.sendall(sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert_problem(answer(connection), 400)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n", 505, id="version"),
        pytest.param(b"GET /livez\r\n\r\n", 505, id="HTTP/0.9"),
        pytest.param(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, id="coding"),
        pytest.param(HEAD + b"X-Many: a\r\n" * 300 + b"\r\n", 431, id="headers"),
        pytest.param(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 501, id="tunnel"),
        pytest.param(b"CONNECT * HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, id="tunnel to nowhere"),
        pytest.param(b"CONNECT /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 501, id="tunnel to a path"),
    ],
)
def test_what_this_server_does_not_support(front, sent, status):
    connection = connect(front)
    connection.sendall(sent)
    assert_problem(answer(connection), status)


@pytest.mark.parametrize(
    "trailer", [b"Host: evil.example", b"Origin: https://evil.example", b"X-User-Id: \xff", b"X-Session-Token: x"]
)
def test_a_trailer_is_no_header(front, trailer):
    """As headers a foreign Host, Origin or token is 403, and an X-User-Id that is not UTF-8 is 400."""
    connection = connect(front)
    connection.sendall(
        HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'11\r\n{"user_id":"ada"}\r\n0\r\n' + trailer + b"\r\n\r\n"
    )
    assert answer(connection).startswith(b"HTTP/1.1 201 ")


def test_an_address_in_the_first_line_may_be_that_of_the_host(front):
    connection = connect(front)
    connection.sendall(b"GET http://LOCALHOST:80/livez HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n")
    assert answer(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("head", "status"), [(b"", b"201"), (b"Origin: https://evil.example\r\n", b"403")])
def test_only_a_body_that_is_wanted_is_asked_for(front, head, status):
    connection = connect(front)
    connection.sendall(HEAD + head + b"Expect: 100-continue\r\nContent-Length: 17\r\nConnection: close\r\n\r\n")
    begun = connection.recv(65536)
    assert begun.startswith(b"HTTP/1.1 100 " if status == b"201" else b"HTTP/1.1 403 ")
    connection.sendall(b'{"user_id":"ada"}')
    assert b"HTTP/1.1 " + status in begun + answer(connection)


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_request_to_switch_to_http2_is_answered_with_its_body_as_http1(front, pieces):
    """Java's HttpClient sends its first request like this."""
    connection = connect(front)
    head = HEAD + UPGRADE + b"Content-Length: 17\r\n\r\n"
    body = b'{"user_id":"ada"}' + b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for piece in [head + body] if pieces == 1 else [head, body]:
        connection.sendall(piece)
    reply = answer(connection)
    assert reply.startswith(b"HTTP/1.1 201 ")
    assert b"HTTP/1.1 200 " in reply


def test_requests_to_switch_are_not_sent_ahead_of_answers(front):
    connection = connect(front)
    connection.sendall((b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + b"\r\n") * 500)
    assert b"HTTP/1.1 400 " in answer(connection)


def test_more_callers_than_the_usual_file_limit(start):
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, usual[1]))
    try:
        front = start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    with ExitStack() as stack:
        watchers = [stack.enter_context(connect(front)) for _ in range(400)]
        for watcher in watchers:
            watcher.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all(watcher.recv(65536).startswith(b"HTTP/1.1 200 ") for watcher in watchers)
