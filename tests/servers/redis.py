"""A Redis process, also for code without an event loop: start, stop, kill, pause, empty."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from session_manager.activity.link import Link
from session_manager.activity.server import LocalRedis, RedisProgram, embedded_redis, real_redis
from tests.waiting import freeze

# The programs that this machine can run. The tests of the contract run on each.
PROGRAMS = {name: program for name, program in {"real": real_redis(), "embedded": embedded_redis()}.items() if program}


class RedisServer:
    """A context manager. Its methods block, and may be called inside an event loop and outside."""

    def __init__(self, program: RedisProgram | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._server = LocalRedis(self._folder, program=program)
        self._thread = ThreadPoolExecutor(1)  # the server ends with the thread that started it

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGCONT)
        self.stop()
        self._thread.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def password(self) -> str:
        return urlsplit(self.url).password or ""

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def pid(self) -> int:
        assert self._server.pid is not None
        return self._server.pid

    def start(self) -> None:
        """Start on the same port, with the data of the last run."""
        self._run(self._server.start())

    def stop(self) -> None:
        self._run(self._server.stop())

    def kill(self) -> None:
        """Send SIGKILL, and wait until it has ended."""
        self.signal(signal.SIGKILL)
        self._run(self._server.stop())

    def empty(self) -> None:
        """Remove the data of a stopped server, so that it comes back empty."""
        shutil.rmtree(self._folder)

    def signal(self, number: signal.Signals) -> None:
        if not self._server.running or not self._server.pid:
            return
        if number is signal.SIGSTOP:
            freeze(self._server.pid)
        else:
            os.kill(self._server.pid, number)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._thread.submit(asyncio.run, work).result()


def connected(link: Link) -> bool:
    """The link has a connection for commands."""
    return link._commands.current is not None
