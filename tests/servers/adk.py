"""A real ``adk api_server`` that keeps its sessions in memory, with the agents of ``adk_agents``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from session_manager.runtime.protocol import PodAddress
from tests.servers import shared

AGENTS = Path(__file__).parent / "adk_agents"
START_WITHIN = 30.0
KEPT_IN_MEMORY = ["--session_service_uri", "memory://", "--artifact_service_uri", "memory://"]


@contextmanager
def api_server(cwd: Path, agents: Path = AGENTS) -> Iterator[PodAddress]:
    """Return its address, with a new UID."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("adk")), "api_server", "--port", str(port)]
    log = (cwd / "adk.log").open("wb")
    with (
        log,
        subprocess.Popen([*command, *KEPT_IN_MEMORY, str(agents)], cwd=cwd, stdout=log, stderr=log) as server,
    ):
        try:
            with shared(server.pid):
                _wait_for(f"http://127.0.0.1:{port}/health", server, cwd / "adk.log")
                yield PodAddress("127.0.0.1", port, str(uuid.uuid4()))
        finally:
            server.terminate()


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while True:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
