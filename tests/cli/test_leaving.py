"""A front door that stops while callers still connect: every caller gets an answer."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

from tests.cli.program import FrontDoor, until

FOREVER = "600"


class Caller:
    """One connection that stays open, like a proxy's. It never reconnects by itself."""

    def __init__(self, front: FrontDoor) -> None:
        self._connection = http.client.HTTPConnection(front.url.removeprefix("http://"), timeout=20)
        self._connection.auto_open = 0
        self._connection.connect()

    def get(self, path: str) -> tuple[int, bool]:
        """Return the status, and True if the answer is the last one on this connection."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("connection") == "close"

    def at_the_end(self) -> bool:
        """Return True if the front door has closed the connection, and not reset it."""
        return self._connection.sock.recv(1) == b""

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def caller(start) -> Iterator[object]:
    with ExitStack() as stack:

        def connect(front: FrontDoor) -> Caller:
            made = Caller(front)
            stack.callback(made.close)
            return made

        yield connect


def refuses(front: FrontDoor) -> bool:
    port = int(front.url.rpartition(":")[2])
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_while_draining_every_answer_closes_its_connection(start, caller):
    front = start(SHUTDOWN_DELAY=FOREVER)
    session = front.create()
    kept, silent = caller(front), caller(front)
    assert kept.get(f"/session/{session}") == (200, False)
    front.signal(signal.SIGTERM)
    front.until_said('"front.stopping"')
    assert kept.get(f"/session/{session}") == (200, True)
    assert silent.get("/livez") == (200, True)
    assert caller(front).get("/readyz") == (503, True)
    assert caller(front).get("/nothing/here") == (404, True)
    assert front.chat(session, "hello") == "I heard hello"
    front.signal(signal.SIGTERM)
    assert front.ended() == 0
    assert "Traceback" not in front.err


def test_open_connections_are_answered_until_the_last_turn_is_done(start, caller):
    front = start(SHUTDOWN_DELAY="0.1", SHUTDOWN_TIMEOUT=FOREVER)
    session = front.create()
    kept, silent = caller(front), caller(front)
    assert kept.get("/livez") == (200, False)
    turn = front.client.stream(session, "wait")
    assert any(event and event.kind == "delta" for event in turn)
    front.signal(signal.SIGTERM)
    until(lambda: refuses(front), "the socket is closed")
    assert kept.get(f"/session/{session}") == (200, True)
    assert silent.get("/livez") == (200, True)
    front.go_on(session)
    assert [event.kind for event in turn if event][-1] == "turn.processed"
    assert front.ended() == 0


def test_idle_connections_are_closed_at_the_end(start, caller):
    front = start()
    idle, silent = caller(front), caller(front)
    assert idle.get("/livez") == (200, False)
    front.signal(signal.SIGTERM)
    assert idle.at_the_end()
    assert silent.at_the_end()
    assert front.ended() == 0


def test_a_turn_that_is_cut_off_is_handed_over_at_once(start, redis_url):
    long = {"LEASE": FOREVER, "REDIS_URL": redis_url}
    front = start("serve", SHUTDOWN_TIMEOUT="0.1", **long)
    session = front.create()
    url, headers = f"{front.url}/session/{session}/chat", {"Accept": "text/event-stream"}
    with requests.post(url, json={"message": "wait"}, headers=headers, stream=True, timeout=20) as turn:
        lines = turn.iter_lines()
        assert any(b"begun" in line for line in lines)
        front.signal(signal.SIGTERM)
        assert b"event: turn.processed" not in set(lines)
    front.go_on(session)
    assert front.ended() == 0
    after = start("serve", **long)
    until(lambda: [each["status"] for each in after.client.messages(session)] == ["processed"], "it is processed")
