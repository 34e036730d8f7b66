"""Agents as a person would start them: ``python agent.py``."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

PREAMBLE = "from session_manager.agent import Context, serve\n"


class Agent:
    """A running agent and one kept connection to it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        self.send(method, path, body, headers)
        return self.answer()

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, data, headers or {})

    def answer(self) -> tuple[int, Any]:
        response = self.connection.getresponse()
        text = response.read().decode()
        stream = response.headers["Content-Type"] == "text/event-stream"
        return response.status, text if stream else json.loads(text)

    def chat(self, message: object, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", "/chat", {"message": message, "user_id": "ada"}, named)

    def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own, and nothing more, and read until the agent closes it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            found = b""
            while piece := peer.recv(65536):
                found += piece
            return found

    def stop(self) -> tuple[int, str, str]:
        """SIGTERM; exit code and output."""
        self.process.terminate()
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=20)
        return self.process.returncode, out, errors


@contextmanager
def running(code: str | Path, home: Path, **env: str) -> Iterator[Agent]:
    command = [code] if isinstance(code, Path) else ["-c", PREAMBLE + textwrap.dedent(code)]
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-P", *command],
        env={"PORT": str(port), "HOST": "127.0.0.1", "HOME": str(home), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
    )
    try:
        wait_for(port, process)
        agent = Agent(process, port)
        with closing(agent.connection):
            yield agent
    finally:
        process.kill()
        process.communicate()


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"the agent does not listen: {process.poll()}")
