"""Front doors as separate processes: ``session-manager serve`` with its default time-outs, without rate limits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.waiting import until

COMMAND = [str(Path(sys.executable).parent / "session-manager"), "serve", "--port"]
LIMITS = ("CREATE", "WAKE", "CHAT", "DELETE", "DEFAULT")
START_WITHIN = 30.0  # seconds
# Longer than the 30 seconds that running turns get.
STOP_WITHIN = 45.0
# Log lines that no fault of the surroundings may cause.
BUGS = frozenset(
    {
        "turn.crashed",
        "drain.crashed",
        "loop.ended",
        "request.crashed",
        "scaler.failed",
        "redis.listener",
        "redis.prepare",
    }
)


class Door:
    """``facts``: environment variables that name the servers and folders. Several front doors may share them.

    ``port`` 0 takes a free one.
    """

    def __init__(self, name: str, folder: Path, facts: dict[str, str], port: int = 0) -> None:
        self.name = name
        self.folder = folder
        self._log = folder / f"{name}.log"
        self._facts = facts
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "LOG_FORMAT": "json",
            "INSTANCE": self.name,
            **{f"RATE_LIMIT_{limit}": "off" for limit in LIMITS},
            **self._facts,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  returns at once
                [*COMMAND, str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.folder,
            )
        serving = await until(self._serving, START_WITHIN)
        self.port = serving["port"]

    def successor(self) -> Door:
        """Return another front door for the same address, not started yet."""
        return Door(f"{self.name}+", self.folder, self._facts, self.port)

    def _serving(self) -> dict[str, Any] | None:
        if not self.running:
            raise AssertionError(f"{self.name} ended:\n{self._log.read_text('utf-8', 'replace')[-3000:]}")
        return next((entry for entry in self.logged() if entry["event"] == "front.serving"), None)

    def logged(self) -> Iterator[dict[str, Any]]:
        """Return the lines of its log so far."""
        for line in self._log.read_text("utf-8", "replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                yield {"event": "loop.ended", "message": line}

    def bugs(self) -> list[str]:
        """Return the log lines about faults of the program, including errors with a traceback."""
        entries = [entry for entry in self.logged() if entry["event"] in BUGS or _is_traceback(entry)]
        return [f"{self.name} logged {json.dumps(entry)[:2000]}" for entry in entries]

    def owns_pods(self) -> bool:
        return any(entry["event"] == "pods.owned" for entry in self.logged())

    def kill(self) -> None:
        """Send SIGKILL and wait until it has ended."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def gone(self) -> int:
        """Wait for its end and return the exit code. Kill it if that takes too long."""
        assert self._process is not None
        try:
            return await asyncio.to_thread(self._process.wait, STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {STOP_WITHIN:g} s of SIGTERM") from None


def _is_traceback(entry: dict[str, Any]) -> bool:
    return "exc_info" in entry and entry["severity"] in {"ERROR", "CRITICAL"}
