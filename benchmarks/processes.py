"""Start the measured programs as separate processes on their core, and end them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
START_WITHIN = 30.0  # seconds
STOP_WITHIN = 15.0
LOOK_EVERY = 0.01


class CannotStart(Exception):
    """A process of the benchmark did not start. The message is its output."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def python(module: str, *args: object) -> list[str]:
    """Return the command that runs a module of the benchmark with this Python."""
    return [sys.executable, "-m", module, *map(str, args)]


class Process:
    """Started at once, on the cores of the calling thread. Its output goes to ``folder``/``name``.log."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._seen = psutil.Process(self._process.pid)

    async def listens(self, port: int) -> None:
        """Wait until it listens. Raises CannotStart if it ends instead."""
        async with asyncio.timeout(START_WITHIN):
            while not await _answers(port):
                if self._process.poll() is not None:
                    raise CannotStart(f"{self.name}: {self._log.read_text(errors='replace')[-2000:]}")
                await asyncio.sleep(LOOK_EVERY)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Return the seconds of CPU that it and its children have used."""
        return cpu_of(self._seen)

    @property
    def memory(self) -> int:
        """Return the resident bytes."""
        return int(self._seen.memory_info().rss)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if that does not help."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WITHIN)
        self._process.kill()
        self._process.wait()


def cpu_of(process: psutil.Process) -> float:
    """Return the seconds of CPU that a process and its current children have used."""
    used = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            used += times.user + times.system
    return used


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
