"""Pods that cannot start: the reason, and words that help."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

import psutil
import pytest

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import Probe, SessionClass
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process import pods as process_pods
from session_manager.runtime.process.ports import LOOPBACK
from tests.runtime.programs import SERVE, linux_only, python, serving
from tests.servers import shared


async def failure(runtime: ProcessRuntime, session: str, session_class: SessionClass) -> PodCannotStart:
    with pytest.raises(PodCannotStart) as caught:
        await runtime.start_pod(session, session_class, lambda words: None)
    assert runtime.pods() == {}
    assert children_of_pods() == []
    return caught.value


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("print('first'); print('no key'); print(); raise SystemExit(3)", "exit code 3; last output: no key; see "),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL; it printed nothing"),
        ("import nothing_like_it", "last output: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("import os; print('\\x1b[31mred', os.environ['OPENAI_API_KEY'], '\\x07')", "last output: red ***; see"),
        ("import os; print(os.environ['HOME'])", "last output: {session}; see"),
        ("print('x' * 100000)", "last output: " + "x" * 200 + "; see"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\n')", "last output: \ufffd; see"),
    ],
)
async def test_a_pod_that_exits_at_its_start(runtime: ProcessRuntime, session: str, code: str, remedy: str) -> None:
    error = await failure(runtime, session, python(code))
    assert error.reason == "CrashedAtStart"
    assert remedy.format(session=session) in error.remedy


async def test_the_last_output_is_not_that_of_an_earlier_pod(runtime: ProcessRuntime, session: str) -> None:
    assert "last output: hello" in (await failure(runtime, session, python("print('hello')"))).remedy
    assert "it printed nothing" in (await failure(runtime, session, python("pass"))).remedy


async def test_a_missing_command(runtime: ProcessRuntime, session: str) -> None:
    error = await failure(runtime, session, SessionClass("mine", ("no-such-program", "x")))
    assert error.reason == "CommandNotFound"
    assert error.remedy.startswith("no-such-program: No such file")
    assert "class mine" in error.remedy


async def test_a_command_that_cannot_be_run(runtime: ProcessRuntime, session: str, tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("")
    error = await failure(runtime, session, SessionClass("mine", (str(tmp_path / "agent"),)))
    assert error.reason == "CommandNotRunnable"
    assert error.remedy.startswith("agent: Permission denied")


async def test_a_class_without_a_command(runtime: ProcessRuntime, session: str) -> None:
    error = await failure(runtime, session, SessionClass("mine"))
    assert error.reason == "NoCommand"
    assert "mine" in error.remedy


BIND = "import os, socket, time\nserver = socket.socket()\nserver.bind(('127.0.0.1', int(os.environ['PORT'])))\n"
ANSWER = BIND + "server.listen()\nwhile True: server.accept()[0].send({answer})"
NEVER_READY = [
    ("import time; time.sleep(600)", "nothing listens on the port"),
    (BIND + "time.sleep(600)", "nothing listens on the port"),
    (BIND + "server.listen()\ntime.sleep(600)", "it takes longer than 0.2 s to answer"),
    (ANSWER.format(answer="b'HTTP/1.1 404 Not Found\\r\\n\\r\\n'"), "it answers 404"),
    (ANSWER.format(answer="b'HTTP/1.1 2000 OK\\r\\n\\r\\n'"), "its answer is not HTTP"),
    (ANSWER.format(answer="b'hello\\n'"), "its answer is not HTTP"),
    (ANSWER.format(answer="b'x' * 9999"), "its answer is not HTTP"),
]


async def test_pods_that_are_never_ready(runtime: ProcessRuntime) -> None:
    """All at once, since each has to wait until its time is up."""

    async def start(code: str) -> PodCannotStart:
        session_class = python(code, probe=Probe(startup_timeout=2.0, timeout=0.2))
        with pytest.raises(PodCannotStart) as caught:
            await runtime.start_pod(str(uuid.uuid4()), session_class, lambda words: None)
        return caught.value

    errors = await asyncio.gather(*(start(code) for code, _ in NEVER_READY))
    assert {error.reason for error in errors} == {"NeverReady"}
    found = [re.findall(r"within 2 s: (.*?);", error.remedy) for error in errors]
    assert found == [[because] for _, because in NEVER_READY]
    assert runtime.pods() == {}
    assert children_of_pods() == []


def children_of_pods() -> list[psutil.Process]:
    """Everything below the keeper."""
    keepers = [child for child in psutil.Process().children() if child.pid not in shared.pids]
    return [child for keeper in keepers for child in keeper.children(recursive=True)]


class Stranger:
    """Takes the port that a pod was given before the pod does, and answers its probe. ``times``: how often."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.taken: list[int] = []
        self._servers: list[asyncio.Server] = []

    async def start(self) -> int:
        server = await asyncio.start_server(self._hear, LOOPBACK, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = int(await reader.readline())
        if len(self.taken) < self.times:
            self._servers.append(await asyncio.start_server(self._answer, LOOPBACK, port))
            self.taken.append(port)
        writer.write(b"go on\n")
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def stranger():
    stranger = Stranger(times=1)
    yield stranger
    await stranger.stop()


# Sends its port to the other process, waits until that listens, and a moment longer, and then tries to listen.
LATE = """
import os, socket, time
with socket.create_connection(("127.0.0.1", {port})) as peer:
    peer.sendall(os.environ["PORT"].encode() + b"\\n")
    peer.recv(100)
time.sleep(0.1)
"""


@linux_only
async def test_another_process_on_the_port_is_not_mistaken_for_the_pod(
    runtime: ProcessRuntime, session: str, stranger: Stranger
) -> None:
    phases: list[str] = []
    session_class = serving(LATE.format(port=await stranger.start()))
    address = await runtime.start_pod(session, session_class, phases.append)
    assert stranger.taken not in ([], [address.port])
    assert "another process took the port; trying another port" in phases


@linux_only
async def test_other_processes_on_every_port(runtime: ProcessRuntime, session: str, stranger: Stranger) -> None:
    stranger.times = 100
    error = await failure(runtime, session, serving(LATE.format(port=await stranger.start())))
    assert error.reason == "PortTaken"
    assert len(stranger.taken) == 3


async def test_a_listener_outside_the_pod_is_accepted_if_the_pod_keeps_running(
    runtime: ProcessRuntime, session: str, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that the command starts is such a listener."""
    monkeypatch.setattr(process_pods, "SETTLE", 0.3)
    content = LATE.format(port=await stranger.start()) + "time.sleep(600)"
    address = await runtime.start_pod(session, python(content), lambda words: None)
    assert [address.port] == stranger.taken


async def test_a_listener_in_a_child_is_the_pods_own(
    runtime: ProcessRuntime, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_pods, "SETTLE", 1e6)  # a listener outside the pod would wait this long
    forks = f"import os\nif os.fork():\n    os.wait()\n{SERVE}"
    await runtime.start_pod(session, python(forks), lambda words: None)


async def test_the_next_start_after_a_failure_works(runtime: ProcessRuntime, session: str) -> None:
    await failure(runtime, session, python("raise SystemExit(1)"))
    address = await runtime.start_pod(session, serving(), lambda words: None)
    assert runtime.pods() == {session: address}


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "x/../../y", "A" * 36, str(uuid.uuid1()), str(uuid.uuid4()).upper(), f"{uuid.uuid4()}\n"],
    ids=["empty", "above", "beside", "deep", "letters", "version 1", "upper case", "line"],
)
async def test_no_path_contains_an_invalid_session_id(runtime: ProcessRuntime, data: Path, name: str) -> None:
    before = sorted(data.rglob("*"))
    for call in (
        runtime.start_pod(name, serving(), lambda words: None),
        runtime.forget(name, files=True),
        runtime.forget(name, files=False),
        runtime.logs(name, 10),
        runtime.gone(name),
    ):
        with pytest.raises(Exception, match="UUIDv4"):
            await call
    assert sorted(data.rglob("*")) == before
