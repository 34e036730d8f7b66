"""scripts/start_adk_api_server.sh, for real: it starts, says when it answers, and ends with what it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.servers.ports import free_port

SCRIPT = Path(__file__).parents[2] / "scripts" / "start_adk_api_server.sh"
ENV = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


@contextmanager
def started(folder: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SCRIPT], cwd=folder, env={**ENV, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    family = psutil.Process(process.pid)
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in family.children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> str:
    """Return the line that it prints once it answers."""
    assert process.stdout is not None
    for line in process.stdout:
        if "documentation:" in line:
            return line
    raise AssertionError(process.stderr.read() if process.stderr else "")


def test_it_serves_until_a_signal(tmp_path: Path):
    port = free_port()
    with started(tmp_path, PORT=str(port)) as process:
        assert (
            ready(process) == f"ADK's API: http://127.0.0.1:{port}/adk   documentation: http://127.0.0.1:{port}/docs\n"
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs") as page:
            assert page.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/adk/list-apps") as page:
            assert isinstance(json.load(page), list)
        assert (tmp_path / "data" / "sessions" / "sessions.db").exists()
        assert (tmp_path / "data" / "sessions").stat().st_mode & 0o777 == 0o700
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []


def test_session_db_uri_and_env_file(tmp_path: Path):
    port = free_port()
    (tmp_path / ".env").write_text(f'PORT="{port}"\nDATA_DIR=elsewhere\nLOG_LEVEL=ERROR\n')
    with started(tmp_path, SESSION_DB_URI=f"sqlite:///{tmp_path}/own.db") as process:
        assert f":{port}/docs" in ready(process)
        assert (tmp_path / "own.db").exists()
        assert list((tmp_path / "elsewhere" / "sessions").iterdir()) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)


def test_errors_that_end_it_at_once(tmp_path: Path):
    with started(tmp_path, PORT=str(free_port()), SESSION_DB_URI="mysql://somewhere/x") as process:
        _, error = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "SESSION_DB_URI" in error


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_starts_nothing(tmp_path: Path, option: str):
    done = subprocess.run([SCRIPT, option], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True)
    assert "PORT            port to listen on (8000)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken(tmp_path: Path):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        started(tmp_path, PORT=str(taken.getsockname()[1])) as process,
    ):
        _, error = process.communicate(timeout=30)
        assert process.returncode == 1
        assert "is in use" in error
