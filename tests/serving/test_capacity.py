"""What one client can hold of a front door: connections, unfinished heads, unread answers, requests and streams."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from session_manager.client import Client
from session_manager.serving.lobby import MOST_HEADS
from session_manager.settings.capacity import MiB
from tests.cli.program import PATIENCE, FrontDoor, until

KEY = "key-of-ada-for-tests"
SERVICE = "key-of-a-service-for-tests"
HERE, THERE = "127.0.0.1", "127.0.0.2"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    small = {
        "SESSION_API_KEYS": f"ada@ada:{KEY},service:{SERVICE}",
        "MAX_CONNECTIONS": "40",
        "MAX_CONNECTIONS_PER_ADDRESS": "30",
        "MAX_REQUESTS_PER_CALLER": "3",
        "MAX_STREAMS_PER_CALLER": "2",
        "HEAD_TIMEOUT": "600",
        "REQUEST_TIMEOUT": "600",
        "WRITE_TIMEOUT": "0.5",
    }
    door = FrontDoor("dev", tmp_path_factory.mktemp("dev"), **small)
    yield door
    assert door.stop() == 0
    assert "Traceback" not in door.err


def connect(front: FrontDoor, address: str = HERE) -> socket.socket:
    port = int(front.url.rpartition(":")[2])
    return socket.create_connection((HERE, port), timeout=PATIENCE, source_address=(address, 0))


def request(line: str, body: bytes = b"", key: str = KEY, /, **headers: str) -> bytes:
    given = {"Host": "localhost", "X-API-Key": key, "Content-Type": "application/json", **headers}
    if body:
        given["Content-Length"] = str(len(body))
    lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def service(front: FrontDoor) -> Client:
    return Client(front.url, SERVICE)


def status_of(connection: socket.socket) -> int:
    """Return the status of the next answer, 0 if the connection is closed without one."""
    reply = b""
    with suppress(ConnectionError):
        while b"\r\n\r\n" not in reply and (piece := connection.recv(65536)):
            reply += piece
    return int(reply.split(b" ", 2)[1]) if reply else 0


def until_closed(connection: socket.socket) -> None:
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass


def test_one_address_does_not_take_every_connection(front):
    with ExitStack() as stack:
        held = [stack.enter_context(connect(front, THERE)) for _ in range(30)]
        for each in held:
            each.sendall(GET)
            assert status_of(each) == 200
        neighbour = stack.enter_context(connect(front, THERE))
        neighbour.sendall(GET)
        assert status_of(neighbour) == 200
        until_closed(held[0])
        held[1].sendall(GET)
        assert status_of(held[1]) == 200
        other = stack.enter_context(connect(front))
        other.sendall(GET)
        assert status_of(other) == 200


def test_a_connection_is_busy_while_a_request_sent_ahead_is_answered(front):
    session = service(front).create("ada", "talker")["uuid"]
    service(front).chat(session, "are you awake?", wait=PATIENCE)
    chat = request(f"POST /session/{session}/chat", b'{"message": "wait"}', Prefer="wait=60")
    with ExitStack() as stack:
        busy = stack.enter_context(connect(front, THERE))
        busy.sendall(GET + chat)
        assert status_of(busy) == 200
        for _ in range(31):
            each = stack.enter_context(connect(front, THERE))
            each.sendall(GET)
            assert status_of(each) == 200
        front.go_on(session)
        assert status_of(busy) == 200


def test_an_unfinished_request_gives_way_to_a_neighbour(tmp_path):
    front = FrontDoor("dev", tmp_path, HEAD_TIMEOUT="600")
    with ExitStack() as stack:
        held = [stack.enter_context(connect(front)) for _ in range(MOST_HEADS)]
        for each in held:
            each.sendall(GET[:10])
        neighbour = stack.enter_context(connect(front))
        neighbour.sendall(GET[:10])
        assert status_of(held[0]) == 429
        neighbour.sendall(GET[10:])
        assert status_of(neighbour) == 200
    assert front.stop() == 0


def test_a_full_front_door_answers_others(front):
    with ExitStack() as stack:
        for address in ("127.0.0.3", "127.0.0.4"):
            for _ in range(20):
                each = stack.enter_context(connect(front, address))
                each.sendall(b"GET /livez HT")
        for _ in range(10):
            other = stack.enter_context(connect(front))
            other.sendall(GET)
            assert status_of(other) == 200


@pytest.mark.parametrize(
    ("line", "key", "status"),
    [
        pytest.param("POST /session/create", KEY, 413, id="too large"),
        pytest.param("POST /session/create", "another key, a wrong one", 401, id="wrong key"),
        pytest.param("POST /livez", KEY, 405, id="open path"),
        pytest.param("POST /adk/health", "", 405, id="open path of ADK"),
        pytest.param("GET /livez", "", 413, id="a body where none is read"),
    ],
)
def test_a_refusal_reaches_a_client_that_still_sends(front, line, key, status):
    with connect(front) as connection:
        connection.sendall(request(line, b"x" * 12_000_000, key))
        assert status_of(connection) == status


def test_a_refused_client_that_sends_endlessly_is_cut_off(front):
    with connect(front) as connection, pytest.raises(ConnectionError):
        connection.sendall(request("POST /session/create", **{"Content-Length": str(10**12)}))
        for _ in range(1000):
            connection.sendall(b"x" * 100_000)


def test_thousands_of_requests_in_one_packet_are_not_kept(front):
    with connect(front) as connection, suppress(ConnectionError):
        connection.sendall(GET * 4000)
        until_closed(connection)


def test_a_client_that_does_not_read_is_cut_off(front):
    with connect(front) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asked = request("GET /openapi.json")
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(asked)


def test_requests_of_one_caller_at_the_same_time(front):
    client = service(front)
    session = client.create("ada", "talker")["uuid"]
    client.chat(session, "are you awake?", wait=PATIENCE)
    waiting = json.dumps({"message": "wait"}).encode()
    with ExitStack() as stack:
        for _ in range(3):
            each = stack.enter_context(connect(front))
            each.sendall(request(f"POST /session/{session}/chat", waiting, Prefer="wait=60"))
        refused = stack.enter_context(connect(front))
        refused.sendall(request(f"GET /session/{session}"))
        assert status_of(refused) == 429
        other = stack.enter_context(connect(front))
        other.sendall(request(f"GET /session/{session}", b"", SERVICE))
        assert status_of(other) == 200
    front.go_on(session)
    until(lambda: looks(front, session) == 200, "the waiting requests end")


def looks(front: FrontDoor, session: str) -> int:
    with connect(front) as connection:
        connection.sendall(request(f"GET /session/{session}"))
        return status_of(connection)


def test_streams_of_one_caller_at_the_same_time(front):
    session = service(front).create("ada", "talker")["uuid"]
    with ExitStack() as stack:
        for expected in (200, 200, 429):
            each = stack.enter_context(connect(front))
            each.sendall(request(f"GET /session/{session}/events"))
            assert status_of(each) == expected
        assert looks(front, session) == 200


@pytest.mark.parametrize(("path", "held"), [("/run", 3), ("/run_sse", 2)])
def test_users_whom_only_the_body_names_do_not_share_the_room_of_their_service(front, path, held):
    client = service(front)
    session = client.create("ada", "talker")["uuid"]
    client.chat(session, "are you awake?", wait=PATIENCE)

    def run(user: str, session_id: str) -> bytes:
        message = {"parts": [{"text": "wait"}], "role": "user"}
        body = {"appName": "talker", "userId": user, "sessionId": session_id, "newMessage": message}
        return request(f"POST /adk{path}", json.dumps(body).encode(), SERVICE)

    def answer(asked: bytes) -> int:
        with connect(front) as connection:
            connection.sendall(asked)
            return status_of(connection)

    with ExitStack() as stack:
        for _ in range(held):
            each = stack.enter_context(connect(front))
            each.sendall(run("ada", session))
            if path == "/run_sse":
                assert status_of(each) == 200
        until(lambda: answer(run("ada", session if path == "/run_sse" else "nothing")) == 429, "ada's room is full")
        assert answer(run("bob", "nothing")) == 404
        assert answer(request("POST /session/create", b'{"user_id": "bob"}', SERVICE)) == 201
    for _ in range(held):
        front.go_on(session)
    until(lambda: answer(run("ada", "nothing")) == 404, "ada's room is free again")


def test_an_answer_longer_than_the_room_of_its_caller_arrives_in_full(tmp_path):
    front = FrontDoor("dev", tmp_path, SESSION_API_KEYS=f"service:{SERVICE}")
    sessions = "/adk/apps/default/users/eve/sessions"
    text = "x" * 7 * MiB

    def send(line: str, body: object = None) -> tuple[int, bytes]:
        with connect(front) as connection:
            connection.sendall(request(line, json.dumps(body).encode() if body else b"", SERVICE, Connection="close"))
            reply = b"".join(iter(lambda: connection.recv(2**20), b""))
            head, _, rest = reply.partition(b"\r\n\r\n")
            return int(head.split(b" ", 2)[1]), rest

    assert send(f"POST {sessions}", {"sessionId": "long"})[0] == 200
    for number in range(6):
        event = {"id": str(number), "author": "user", "content": {"parts": [{"text": text}], "role": "user"}}
        assert send(f"POST {sessions}/long/events", {"event": event})[0] == 200
    for _ in range(2):  # what the first one held is free again
        status, body = send(f"GET {sessions}/long")
        assert (status, len(json.loads(body)["events"])) == (200, 6)
    with connect(front) as slow:
        slow.sendall(request(f"GET {sessions}/long", b"", SERVICE))
        assert status_of(slow) == 200
        assert send(f"GET {sessions}/long")[0] == 429
    assert front.stop() == 0


def test_slow_readers_of_long_answers_make_room_for_others(tmp_path):
    small = {"BUFFER_BYTES": str(10 * MiB), "BUFFER_BYTES_PER_CALLER": str(10 * MiB)}
    door = FrontDoor("dev", tmp_path, SESSION_API_KEYS=f"service:{SERVICE}", **small)
    text = "x" * 6 * MiB
    event = {"id": "e", "author": "user", "content": {"parts": [{"text": text}], "role": "user"}}
    for user in ("eve", "ada"):
        sessions = f"/adk/apps/default/users/{user}/sessions"
        for path, body in ((sessions, {"sessionId": "long"}), (f"{sessions}/long/events", {"event": event})):
            with connect(door) as each:
                each.sendall(request(f"POST {path}", json.dumps(body).encode(), SERVICE))
                assert status_of(each) == 200
    with connect(door) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(request("GET /adk/apps/default/users/eve/sessions/long", b"", SERVICE))
        assert status_of(slow) == 200

        def asked() -> int:
            with connect(door) as other:
                other.sendall(request("GET /adk/apps/default/users/ada/sessions/long", b"", SERVICE))
                return status_of(other)

        assert asked() == 503
        until(lambda: asked() == 200, "the slow reader gives way")
    assert door.stop() == 0
