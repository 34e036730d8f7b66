"""Machines that share a bucket, each with a front door and a disk of its own, and callers that write to them."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.cli.program import Running, until

LEASE = 30.0  # seconds
SHORT = 4.0  # if it has to expire; longer than a busy machine keeps a process waiting
SHIPPING = 0.3


class Machine:
    """A front door with a folder as its disk. ``start`` may be called again."""

    def __init__(self, folder: Path, bucket: str, redis_url: str, **env: str) -> None:
        self.folder = folder
        given = {"STORAGE_BUCKET": bucket, "REDIS_URL": redis_url, "WRITER_LEASE": str(LEASE)}
        unlimited = {"RATE_LIMIT_CREATE": "off", "RATE_LIMIT_DEFAULT": "off", "SESSIONS_PER_USER": "off"}
        self._env = {**given, **unlimited, **env}
        self.door: Running | None = None
        self.url = ""

    def start(self) -> Machine:
        self.folder.mkdir(exist_ok=True)
        self.door = Running("serve", cwd=self.folder, **self._env)
        self.door.until_said('"front.serving"')
        [port] = (line["port"] for line in self.door.log if line["event"] == "front.serving")
        self.url = f"http://127.0.0.1:{port}"
        return self

    @property
    def process(self) -> Running:
        assert self.door is not None
        return self.door

    @property
    def events(self) -> list[str]:
        lines = (json.loads(line) for line in self.process.err.splitlines() if line.startswith("{"))
        return [line["event"] for line in lines if "event" in line]

    @property
    def ready(self) -> bool:
        return requests.get(f"{self.url}/readyz", timeout=10).ok

    def until_ready(self) -> Machine:
        until(lambda: self.ready, "ready")
        return self

    def health(self) -> dict[str, Any]:
        return dict(requests.get(f"{self.url}/health", timeout=10).json())

    def create(self) -> requests.Response:
        return requests.post(f"{self.url}/session/create", json={"user_id": "ada"}, timeout=10)

    def write(self, count: int) -> set[str]:
        answers = [self.create() for _ in range(count)]
        assert [answer.status_code for answer in answers] == [201] * count
        return {answer.json()["uuid"] for answer in answers}

    def sessions(self) -> set[str]:
        """Return all sessions."""
        found: set[str] = set()
        more: dict[str, str] | None = {}
        while more is not None:
            page = requests.get(f"{self.url}/sessions", {"limit": "500", **more}, timeout=10).json()
            found |= {each["uuid"] for each in page["sessions"]}
            more = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
        return found

    def until_shipped(self) -> None:
        """Wait until everything that is written by now is in the bucket."""
        written = time.monotonic()

        def shipped() -> bool:
            lag = self.health()["session_storage_lag"]
            return lag is not None and time.monotonic() - lag > written + 1.0

        until(shipped, "shipped")

    def vanish(self) -> None:
        """Kill all its processes at once and remove its disk."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        for process in (*family, psutil.Process(self.process.pid)):
            process.send_signal(signal.SIGKILL)
        self.process.ended()
        shutil.rmtree(self.folder)

    def stop(self) -> None:
        if self.door is not None and self.door.process.poll() is None:
            self.door.signal(signal.SIGCONT)
            self.door.stop()


@dataclass
class Writers:
    """Callers that write all the time, and turn to the other machine when one rejects them."""

    machines: list[Machine]
    acknowledged: dict[str, tuple[str, float]] = field(default_factory=dict)
    rejections: list[requests.Response] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Writers:
        self._threads = [threading.Thread(target=self._write, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def by(self, machine: Machine) -> list[float]:
        """Return the times at which this machine acknowledged writes, sorted."""
        return sorted(at for url, at in list(self.acknowledged.values()) if url == machine.url)

    def until_written(self, machine: Machine, count: int) -> None:
        before = len(self.by(machine))
        until(lambda: len(self.by(machine)) >= before + count, f"{count} writes")

    def _write(self) -> None:
        turn = 0
        while not self._stop.is_set():
            machine = self.machines[turn % len(self.machines)]
            try:
                answer = machine.create()
            except requests.RequestException:
                turn += 1
                continue
            if answer.status_code == 201:
                self.acknowledged[answer.json()["uuid"]] = (machine.url, time.monotonic())
            else:
                self.rejections.append(answer)
                turn += 1


Make = Callable[..., Machine]
