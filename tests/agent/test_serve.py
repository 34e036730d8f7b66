"""The helper for agents, run as a process: what it answers on the wire."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.running import Agent, running

SESSION = str(uuid.uuid4())

AGENT = """
import asyncio, os, pathlib, threading

async def slow(message):
    await asyncio.sleep(0.01)
    if message == "async exit":
        raise SystemExit(5)
    return {"loop": id(asyncio.get_running_loop())}

def pieces():
    yield "Hel"
    yield {"text": "lo", "more": 1}
    yield 5
    return {"whole": "Hello"}

async def apieces():
    yield "a"
    await asyncio.sleep(0)
    yield "b"

def half():
    yield "a"
    raise ValueError("half way")

def reply(message, context):
    match message:
        case "context":
            return {name: getattr(context, name) for name in Context.__slots__}
        case "async" | "async exit": return slow(message)
        case "pieces": return pieces()
        case "apieces": return apieces()
        case "half": return half()
        case "text": return "words"
        case "none": return None
        case "raise": raise ValueError("no key")
        case "oserror": raise ConnectionResetError("of the agent's own")
        case "unserializable": return {"x": object()}
        case "surrogate": return {"x": chr(0xd800)}
        case "big": return {"x": "y" * 3_000_000}
        case "exit": raise SystemExit(5)
    return {"reply": message}

serve(reply)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shared_agent(home: Path) -> Iterator[Agent]:
    with running(AGENT, home) as agent:
        yield agent


@pytest.fixture
def agent(shared_agent: Agent) -> Iterator[Agent]:
    yield shared_agent
    shared_agent.connection.close()


def test_health(agent: Agent) -> None:
    assert agent.call("GET", "/health") == (200, {"status": "ok"})
    assert agent.call("GET", "/health?verbose=1") == (200, {"status": "ok"})


def test_a_turn_knows_its_context(agent: Agent, home: Path) -> None:
    headers = {"X_Session_Id": SESSION, "X_Message_Id": "m-1", "X_Attempt": "2", "X_Session_Token": "t-1"}
    trace = {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    known = {"session_id": SESSION, "message_id": "m-1", "user_id": "ada", "attempt": 2, "token": "t-1"}
    assert agent.chat("context", **headers, **trace) == (200, {**known, "home": str(home), "trace": trace})
    unknown = {"session_id": "", "message_id": "", "user_id": "", "attempt": 1, "token": ""}
    expected = {**unknown, "home": str(home), "trace": {}}
    assert agent.call("POST", "/chat", {"message": "context"}) == (200, expected)


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("Grüße \U0001f600 \x00", {"reply": "Grüße \U0001f600 \x00"}),
        ("text", {"reply": "words"}),
        ("none", {"reply": None}),
        ("pieces", {"whole": "Hello"}),
        ("apieces", {"reply": "ab"}),
        ("surrogate", {"x": "\ud800"}),
        ("big", {"x": "y" * 3_000_000}),
        ("\x01" * 1024 * 1024, {"reply": "\x01" * 1024 * 1024}),
    ],
)
def test_the_return_value_of_an_agent_is_the_reply(agent: Agent, message: str, reply: object) -> None:
    assert agent.chat(message) == (200, reply)


def test_coroutines_of_all_turns_run_in_one_loop(agent: Agent) -> None:
    assert agent.chat("async") == agent.chat("async")


def events(text: str) -> list[tuple[str, object]]:
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        event, data = block.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "pieces",
            [
                ("delta", {"text": "Hel"}),
                ("delta", {"text": "lo", "more": 1}),
                ("delta", 5),
                ("reply", {"whole": "Hello"}),
            ],
        ),
        ("apieces", [("delta", {"text": "a"}), ("delta", {"text": "b"}), ("reply", {"reply": "ab"})]),
        ("half", [("delta", {"text": "a"}), ("error", {"error": "ValueError: half way"})]),
    ],
)
def test_a_generator_streams_to_callers_that_accept_it(agent: Agent, message: str, expected: object) -> None:
    for _ in range(2):  # on one connection
        status, text = agent.chat(message, Accept="application/json, text/event-stream")
        assert (status, events(text)) == (200, expected)


def test_an_agent_that_does_not_yield_does_not_stream(agent: Agent) -> None:
    assert agent.chat("hi", Accept="text/event-stream") == (200, {"reply": "hi"})


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("raise", "ValueError: no key"),
        ("oserror", "ConnectionResetError: of the agent's own"),
        ("half", "ValueError: half way"),
        ("unserializable", "TypeError: Object of type object is not JSON serializable"),
        ("exit", "SystemExit: 5"),
        ("async exit", "RuntimeError: SystemExit: 5"),
    ],
)
def test_an_agent_that_fails_fails_the_turn_and_lives_on(agent: Agent, message: str, words: str) -> None:
    assert agent.chat(message) == (500, {"error": words})
    assert agent.chat("hi") == (200, {"reply": "hi"})
    assert agent.chat("async")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/chat", 405),
        ("PUT", "/chat", 405),
        ("POST", "/health", 405),
        ("GET", "/", 404),
        ("POST", "/chat/", 404),
    ],
)
def test_other_routes(agent: Agent, method: str, path: str, status: int) -> None:
    assert agent.call(method, path)[0] == status


def test_a_wrong_method_names_the_right_one(agent: Agent) -> None:
    assert b"\r\nAllow: POST\r\n" in agent.raw(b"GET /chat HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"[]",
        b"{}",
        b'"message"',
        b'{"message": 5}',
        b'{"message": null}',
        b"[" * 100_000,
        b'{"message": "\xff"}',
    ],
)
def test_invalid_bodies(agent: Agent, body: bytes) -> None:
    assert agent.call("POST", "/chat", body)[0] == 400


def test_an_attempt_that_is_not_a_number(agent: Agent) -> None:
    assert agent.chat("hi", X_Attempt="x")[0] == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"GET /health HTTP/2\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nBroken\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nX : y\r\n\r\n", 400),
        (b"POST /chat HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /chat HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /chat HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", 400),
        (b"POST /chat HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /chat HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n", 413),
        (b"POST /chat HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"x" * 70_000, 431),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
    ],
)
def test_one_answer_and_the_end_of_the_connection(agent: Agent, data: bytes, status: int) -> None:
    answer = agent.raw(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("data", [b"", b"GET /hea", b"POST /chat HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"])
def test_a_peer_that_goes_away(agent: Agent, data: bytes) -> None:
    assert agent.raw(data) == b""
    assert agent.chat("hi") == (200, {"reply": "hi"})


def test_requests_one_after_the_other_in_one_piece(agent: Agent) -> None:
    chat = b'POST /chat HTTP/1.1\r\nContent-Length: 16\r\n\r\n{"message": "a"}'
    assert agent.raw(chat + b"GET /health HTTP/1.1\r\n\r\n" + chat).count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_expects_100_continue(agent: Agent) -> None:
    head = b"POST /chat HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 16\r\n\r\n"
    assert agent.raw(head + b'{"message": "a"}').startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_the_first_session_that_is_seen_is_its_own(home: Path) -> None:
    with running(AGENT, home) as agent:
        assert agent.chat("hi")[0] == 200
        assert agent.chat("hi", X_Session_Id=SESSION)[0] == 200
        assert agent.chat("hi", X_Session_Id=str(uuid.uuid4()))[0] == 421
        assert agent.chat("hi", X_Session_Id=SESSION)[0] == 200


def test_a_pod_that_knows_its_session_serves_no_other(home: Path) -> None:
    with running(AGENT, home, SESSION_ID=SESSION) as agent:
        assert agent.chat("hi", X_Session_Id=str(uuid.uuid4()))[0] == 421
        assert agent.chat("hi", X_Session_Id=SESSION)[0] == 200


WAITING = """
import pathlib, time
def reply(message, context):
    pathlib.Path("started").touch()
    while not pathlib.Path("go on").exists():
        time.sleep(0.01)
    return {"done": message}
print("hello")
serve(reply)
print("bye")
"""


def test_health_answers_during_a_turn_and_sigterm_lets_it_finish(tmp_path: Path) -> None:
    with running(WAITING, tmp_path) as agent:
        agent.send("POST", "/chat", {"message": "long"})
        while not (tmp_path / "started").exists():
            pass
        other = Agent(agent.process, agent.port)
        assert other.call("GET", "/health")[0] == 200
        agent.process.terminate()
        while other.call("GET", "/health")[0] == 200:  # until it has seen the signal
            pass
        assert other.chat("late")[0] == 503
        (tmp_path / "go on").touch()
        assert agent.answer() == (200, {"done": "long"})
        other.connection.close()
        assert agent.ended() == (0, "hello\nbye\n", "")


def test_turns_never_overlap(tmp_path: Path) -> None:
    with running(WAITING, tmp_path) as agent:
        agent.send("POST", "/chat", {"message": "first"})
        while not (tmp_path / "started").exists():
            pass
        (tmp_path / "started").unlink()
        other = Agent(agent.process, agent.port)
        other.send("POST", "/chat", {"message": "second"})
        third = Agent(agent.process, agent.port)
        assert third.call("GET", "/health")[0] == 200
        assert not (tmp_path / "started").exists()
        (tmp_path / "go on").touch()
        assert agent.answer() == (200, {"done": "first"})
        assert other.answer() == (200, {"done": "second"})
        other.connection.close()
        third.connection.close()


def test_a_traceback_goes_to_the_log(home: Path) -> None:
    with running(AGENT, home) as agent:
        agent.chat("raise")
        code, _, errors = agent.stop()
    assert code == 0
    assert "Traceback" in errors
    assert errors.endswith("ValueError: no key\n")


def test_a_taken_port_is_an_exit_with_a_reason(agent: Agent, home: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "session_manager.agent.echo"],
        env={"PORT": str(agent.port), "HOST": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1].startswith("OSError: ")
    assert "in use" in ended.stderr.splitlines()[-1]


HEAVY = {"asyncio", "dataclasses", "http", "inspect", "logging", "ssl", "typing", "urllib"}


def test_it_imports_little_so_that_a_pod_starts_fast() -> None:
    code = "import sys, session_manager.agent; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    names = set(shown.split())
    assert not names & HEAVY
    ours = {name for name in names if name.startswith("session_manager")}
    assert {name for name in ours if not name.startswith("session_manager.agent")} == {"session_manager"}
