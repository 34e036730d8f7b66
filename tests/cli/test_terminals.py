"""Terminals and pipes that are not UTF-8, narrow ones, and pipes that close."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from tests.cli.program import BASE, PATIENCE, PROGRAM, FrontDoor

ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONIOENCODING": "latin-1"},
]


def run(
    front: FrontDoor, *args: str | bytes, env: Mapping[str, str] = MappingProxyType({}), stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    surroundings = {**BASE, "SESSION_MANAGER_URL": front.url, **env}
    return subprocess.run(
        [PROGRAM, *args], env=surroundings, input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Any:
    door = FrontDoor("dev", tmp_path_factory.mktemp("terminals"))
    yield door
    assert door.stop() == 0


@pytest.fixture(scope="module")
def session(front: FrontDoor) -> str:
    return front.create()


@pytest.mark.parametrize("env", ASCII, ids=lambda env: " ".join(f"{k}={v}" for k, v in env.items()))
def test_what_a_terminal_cannot_show_is_replaced(front: FrontDoor, session: str, env: dict[str, str]):
    text = "grüße 🙂 \u2028 漢"
    done = run(front, "chat", session, text.encode(), env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr" in done.stdout
    [*_, last] = json.loads(run(front, "messages", session, "--json", env=env).stdout)["messages"]
    assert last["message"] == text
    for command in (("messages", session), ("list",), ("--help",)):
        done = run(front, *command, env=env)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    encoding = "latin-1" if "latin-1" in env.values() else "utf-8"
    done = run(front, "chat", session, stdin="auch ü\n".encode(encoding), env=env)
    assert done.returncode == 0, done.stderr
    [*_, last] = json.loads(run(front, "messages", session, "--json", env=env).stdout)["messages"]
    assert last["message"] == "auch ü"


def test_arguments_that_are_not_utf_8(front: FrontDoor, session: str):
    done = run(front, "chat", session, b"caf\xe9")
    assert (done.returncode, done.stderr) == (0, b"")
    [*_, last] = json.loads(run(front, "messages", session, "--json").stdout)["messages"]
    assert last["message"] == "caf\ufffd"
    for command in ((b"status", b"\xff"), (b"list", b"--user", b"\xff"), (b"create", b"--name", b"\xff"), (b"\xff",)):
        done = run(front, *command)
        assert b"Traceback" not in done.stderr, done.stderr


def test_a_pipe_that_closes(front: FrontDoor, session: str):
    for command in (("list", "--json"), ("list",), ("messages", session), ("--help",)):
        reading, writing = os.pipe()
        os.close(reading)
        surroundings = {**BASE, "SESSION_MANAGER_URL": front.url}
        done = subprocess.run(
            [PROGRAM, *command], env=surroundings, stdout=writing, stderr=subprocess.PIPE, timeout=PATIENCE, check=False
        )
        os.close(writing)
        assert (done.stderr, done.returncode in (0, 1)) == (b"", True)


@pytest.mark.parametrize("columns", ["1", "8", "20"])
def test_a_narrow_terminal(front: FrontDoor, session: str, columns: str):
    for command in (("list",), ("status", session), ("--help",)):
        done = run(front, *command, env={"COLUMNS": columns, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
        assert (done.returncode, done.stderr) == (0, b"")
