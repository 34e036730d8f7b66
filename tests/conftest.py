"""Gates that every test passes through, and the servers that a whole run shares.

A test fails when an asyncio task or a process that it started outlives it. Whatever a fixture makes is torn down before
the gates look, since the gates are set up first.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from session_manager import settings
from session_manager.activity.link import Link
from tests.servers import shared
from tests.servers.accepting import repair_accepting
from tests.servers.redis import RedisServer

pytest_plugins = ["tests.servers.buckets"]

repair_accepting()

# What a developer has in the environment or in .env is no setting of a test.
settings.DOT_ENV = Path(os.devnull)
for _name in [name for name in os.environ if name.upper() in settings.Settings.declared()]:
    del os.environ[_name]


def pytest_sessionstart() -> None:
    # Asked for the current loop where there is none, asyncio would make one that nobody closes.
    asyncio.set_event_loop(None)
    # In the background of a shell Ctrl-C is ignored, and so it would be by all programs that tests start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A real Redis for the whole run. Tests use a database of their own: ``redis_url`` gives an emptied one."""
    with RedisServer() as server, shared(server.pid):
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of the shared Redis, emptied."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    """A connected client of the shared Redis."""
    link = Link.from_url(redis_url)
    await link.start()
    yield link
    await link.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to stop, kill and restart."""
    with RedisServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_no_tasks_left")
    folder = Path(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    before = _children()
    yield
    left = [_describe(process) for process in _children() - before if _alive(process)]
    left += _processes_in(folder) if folder else []
    if left:
        pytest.fail("processes outlived the test:\n" + "\n".join(left))


@pytest.fixture
async def _no_tasks_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # what was cancelled ends within a few turns of the loop
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        pytest.fail("tasks outlived the test:\n" + "\n".join(map(repr, left)))


def _children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if child.pid not in shared.pids}


def _alive(process: psutil.Process) -> bool:
    """Still running after a moment in which it may end."""
    try:
        process.wait(1)
    except psutil.TimeoutExpired:
        return True
    return False


def _describe(process: psutil.Process) -> str:
    with process.oneshot():
        try:
            return f"{process.pid} {' '.join(process.cmdline())}"
        except psutil.NoSuchProcess:
            return str(process.pid)


def _processes_in(folder: Path) -> list[str]:
    """Processes that work in the test's own folder, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter(["cwd"]):
        cwd = process.info["cwd"]
        if cwd and Path(cwd).is_relative_to(folder) and _alive(process):
            found.append(_describe(process))
    return found
