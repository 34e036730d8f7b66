"""The Python client against servers that do not behave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from session_manager import client as client_module
from session_manager.client import Client, ClientError, Event, InvalidRequest, Unreachable

Answer = tuple[int, dict[str, str], bytes]


class Server:
    """Sends the given answers in order, and repeats the last. ``seen``: method, path, headers, body of each request."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.seen.append((self.command, self.path, headers, json.loads(body) if body else None))
                status, fields, content = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def json(self, value: Any, status: int = 200, **headers: str) -> None:
        self.answers.append((status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()))

    def events(self, *events: bytes) -> None:
        """A stream that breaks off behind these."""
        self.answers.append((200, {"Content-Type": "text/event-stream"}, b"".join(events)))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(client_module, "RESUME_PAUSE", 0.0)
    with Client(server.url) as client:
        yield client


QUEUED = b'event: turn.queued\ndata: {"message_id":"m","position":1}\n\n'
LIFE = b": still here\n\n"
DELTA = b'event: delta\ndata: {"message_id":"m","data":{"text":"a"}}\n\n'
PROCESSED = b'event: turn.processed\ndata: {"message_id":"m","status":"processed"}\n\n'


def test_a_stream_is_read_event_by_event(client, server):
    server.events(QUEUED, LIFE, DELTA, PROCESSED)
    events = list(client.stream("s", "hello"))
    assert events[1] is None
    assert [event.kind for event in events if event] == ["turn.queued", "delta", "turn.processed"]
    assert events[2] == Event("delta", {"message_id": "m", "data": {"text": "a"}})


def test_a_stream_that_breaks_off_is_resumed_as_the_same_message(client, server):
    server.events(QUEUED, b"event: turn.proc")
    server.json({"detail": "starting"}, 503)
    server.events(QUEUED, PROCESSED)
    kinds = [event.kind for event in client.stream("s", "hello") if event]
    assert kinds == ["turn.queued", "turn.queued", "turn.processed"]
    assert len({headers["idempotency-key"] for _, _, headers, _ in server.seen}) == 1
    assert {body["message"] for *_, body in server.seen} == {"hello"}


def test_a_stream_that_never_began_is_not_repeated(client, server):
    server.json({"detail": "away"}, 503, **{"Retry-After": "7"})
    with pytest.raises(ClientError) as caught:
        list(client.stream("s", "hello"))
    assert (caught.value.status, caught.value.detail, caught.value.retry_after) == (503, "away", 7)
    assert len(server.seen) == 1


def test_resuming_ends(client, server):
    server.events(QUEUED)
    with pytest.raises(Unreachable):
        list(client.stream("s", "hello"))


def test_lists_go_through_all_pages(client, server):
    server.json({"sessions": [{"uuid": "1"}], "next_cursor": "c+1"})
    server.json({"sessions": [{"uuid": "2"}], "next_cursor": None})
    assert [row["uuid"] for row in client.list(status="awake")] == ["1", "2"]
    assert [path for _, path, *_ in server.seen] == [
        "/sessions?limit=500&status=awake",
        "/sessions?limit=500&status=awake&cursor=c%2B1",
    ]


def test_what_it_sends(server):
    server.json({"uuid": "u"})
    with Client(server.url + "/", key="k-1", user="ädä") as client:
        client.chat("a/b?c", "hello", wait=30, idempotency_key="once")
        client.wake("s", 60)
        client.sleep("s", when_idle=True)
        client.create("ada", name="n")
    chat, wake, sleep, create = server.seen
    assert chat[:2] == ("POST", "/session/a%2Fb%3Fc/chat")
    headers = chat[2]
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer k-1", "once")
    assert headers["prefer"] == "wait=30"
    assert headers["x-user-id"].encode("latin-1").decode() == "ädä"
    assert wake[3] == {"keep_awake_seconds": 60}
    assert sleep[1] == "/session/s/sleep?when=idle"
    assert create[3] == {"user_id": "ada", "class": "default", "name": "n"}


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ((200, {}, b"<html>"), "the server that answered is not a Session Manager"),
        ((200, {}, b"[]"), "the server that answered is not a Session Manager"),
        ((404, {}, b"<html>"), "the server answered 404 Not Found"),
        ((404, {}, b'{"detail": "no such session"}'), "no such session"),
        ((302, {"Location": "/elsewhere"}, b""), "the server answered 302 Found"),
    ],
)
def test_an_invalid_answer(client, server, answer, detail):
    server.answers.append(answer)
    with pytest.raises(ClientError) as caught:
        client.get("s")
    assert caught.value.detail == detail
    assert len(server.seen) == 1


def test_no_server():
    with Client("http://127.0.0.1:1") as client, pytest.raises(Unreachable, match="cannot reach"):
        client.get("s")


def test_loopback_needs_no_proxy(client, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.json({"uuid": "u"})
    assert client.get("s") == {"uuid": "u"}


def test_an_error_never_quotes_the_key(server):
    with Client(server.url, key="secret\nkey") as client, pytest.raises(InvalidRequest) as caught:
        client.get("s")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
