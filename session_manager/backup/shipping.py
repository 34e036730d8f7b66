"""Shipping: Litestream as a child process that stores every change in the bucket seconds after it was committed.

It is restarted when it ends, with growing pauses. It reads the WAL beside our one writer, and ships to a line of its
own term, so that a writer that continues after it lost the lease overwrites nothing. It ends with this process, however
that ends: the kernel sends it SIGTERM, and it ships the last changes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.backup.litestream import Line, Litestream, configuration

log = logging.getLogger(__name__)

BACKOFF = Backoff(1.0, 60.0)
STEADY = 60.0  # seconds of running after which the pauses start again
LOOKS = 2.0
FLUSH = 20.0  # seconds for the last changes, by default
SOCKET = "control"

# Linux ends the tool with this process, even after SIGKILL.
_TIED_EXEC = """
import ctypes, os, sys
if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.DEBUG, "WARN": logging.WARNING, "ERROR": logging.WARNING}


class Shipper:
    """Ships one database to one line, every ``interval`` seconds."""

    def __init__(self, tool: Litestream, database: Path, line: Line, interval: float) -> None:
        self._tool = tool
        self._database = database.absolute()
        self._line = line
        self._interval = interval
        self._process: Process | None = None
        self._last = datetime.now(UTC)
        self._tasks: list[asyncio.Task[None]] = []
        # Not beside the database: the path of a socket is limited to about a hundred characters. Others cannot read it.
        self._control = Path(tempfile.mkdtemp(prefix="shipping-"))

    @property
    def lag(self) -> float:
        """Seconds since all changes were stored, or since the start if they never were."""
        return (datetime.now(UTC) - self._last).total_seconds()

    async def start(self) -> None:
        """Begin to ship the database, which has to exist."""
        prefix = f".{self._database.name}-shipping-"
        own = self._database.with_name(f"{prefix}{self._line.name.rpartition('/')[2]}")
        for folder in self._database.parent.glob(f"{prefix}*"):
            if folder != own:  # of an earlier term
                shutil.rmtree(folder, ignore_errors=True)
        own.mkdir(mode=0o700, exist_ok=True)
        text = configuration(self._database, own, self._control / SOCKET, self._line, self._interval, FLUSH)
        config = self._control / "litestream.yml"
        config.write_text(text)
        self._tasks = [
            asyncio.create_task(self._supervise(config), name="shipping"),
            asyncio.create_task(self._watch(), name="shipping watch"),
        ]

    async def stop(self, patience: float = FLUSH) -> bool:
        """Ship the last changes within ``patience`` seconds, and end. Return True if everything is stored."""
        stored = await self.flush(patience) if patience > 0 else False
        await cancel(*self._tasks)
        await self._end(patience)
        shutil.rmtree(self._control, ignore_errors=True)
        extra = {"event": "shipping.stopped", "stored": stored}
        log.log(logging.INFO if stored else logging.WARNING, "shipping stopped", extra=extra)
        return stored

    async def _supervise(self, config: Path) -> None:
        pauses = BACKOFF.pauses()
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            code = await self._run(config)
            if loop.time() - began > STEADY:
                pauses = BACKOFF.pauses()
            pause = next(pauses)
            extra = {"event": "shipping.ended", "code": code, "pause": pause}
            log.warning("litestream ended (%s) and will be restarted", code, extra=extra)
            await asyncio.sleep(pause)

    async def _run(self, config: Path) -> int | None:
        tied = [sys.executable, "-ISc", _TIED_EXEC, str(os.getpid())]
        try:
            self._process = await self._tool.run("replicate", "-no-expand-env", "-config", str(config), before=tied)
        except OSError as error:
            log.error("litestream could not be run", extra={"event": "shipping.failed", "reason": str(error)})
            return None
        extra = {"event": "shipping.started", "pid": self._process.pid, "line": self._line.url}
        log.info("changes are shipped to %s", self._line.url, extra=extra)
        await _log_output(self._process.stderr)
        return await self._process.wait()

    async def _end(self, patience: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate() if patience > 0 else process.kill()
        try:
            async with asyncio.timeout(max(patience, 1.0)):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOKS)
            answer = await self._ask("GET", "list", LOOKS)
            known = [each["last_sync_at"] for each in (answer or {}).get("databases", ()) if each.get("last_sync_at")]
            self._last = max(map(datetime.fromisoformat, known), default=self._last)

    async def flush(self, patience: float) -> bool:
        """Ship all changes. Return True if the tool confirms it within ``patience`` seconds."""
        wanted = {"path": str(self._database), "wait": True, "timeout": max(1, int(patience))}
        answer = await self._ask("POST", "sync", patience, wanted)
        return answer is not None and answer.get("replicated_txid") == answer.get("txid")

    async def _ask(self, method: str, path: str, patience: float, body: Any = None) -> dict[str, Any] | None:
        """Return the answer of the tool on its socket, or None without one."""
        timeout = aiohttp.ClientTimeout(total=patience)
        connector = aiohttp.UnixConnector(str(self._control / SOCKET))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
                client.request(method, f"http://litestream/{path}", json=body) as response,
            ):
                return dict(await response.json()) if response.ok else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None


async def _log_output(lines: asyncio.StreamReader | None) -> None:
    """Copy the tool's output, lines of JSON, to our log until it ends."""
    while lines is not None and (line := await lines.readline()):
        try:
            said = json.loads(line)
            level, message, reason = said["level"], said["msg"], said.get("error")
        except (ValueError, KeyError, TypeError):
            level, message, reason = "WARN", line.decode(errors="replace").strip(), None
        extra = {"event": "shipping.said", "reason": reason}
        log.log(_LEVELS.get(level, logging.INFO), "litestream: %s", message, extra=extra)
