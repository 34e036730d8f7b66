"""Real faults, under load, at the real time-outs: nothing that was acknowledged is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import injections
from tests.faults.records import PostgresDatabase, SqliteFile, read_records, unfinished
from tests.faults.report import show
from tests.faults.verdict import Course, Evidence, figures, violations
from tests.faults.world import World, world
from tests.servers.postgres import postgres_server
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SEED = 20
FAULT_AT = 250  # messages acknowledged when the fault comes: many of them wait, and as many more come while it lasts
SENT_WITHIN = 120.0  # seconds
QUIET_WITHIN = 120.0
LOOK_EVERY = 0.1
REPEATED = 40  # acknowledged messages that are sent again afterwards, under their keys
ASLEEP_WITHIN = 60.0

Injection = Callable[[World], Awaitable[None]]


@pytest.fixture
async def surroundings(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[World]:
    async with world(tmp_path, own_redis, SqliteFile(tmp_path / "sessions.db"), SEED) as made:
        yield made


@pytest.fixture
async def surroundings_on_postgres(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[World]:
    with ThreadPoolExecutor(1) as thread, postgres_server("fsync=on") as server:
        async with world(tmp_path, own_redis, PostgresDatabase(server, thread), SEED) as made:
            yield made


async def endure(world: World, name: str, inject: Injection, hang_up: float = 0.0) -> None:
    """Send the load, inject the fault in the middle of it, wait until all is quiet, and judge."""
    load = world.load(hang_up)
    sending = asyncio.create_task(load.run())
    try:
        await load.until_acknowledged(FAULT_AT)
        waiting = await unfinished(world.database)
        began = time.monotonic()
        await inject(world)
        over = time.monotonic() - began
        broken = await ends({sending}, SENT_WITHIN, "clients wait")
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    broken += await comes(world.quiet, QUIET_WITHIN, "messages wait")
    quiet = time.monotonic() - began
    broken += await comes(world.asleep, ASLEEP_WITHIN, "sessions are awake")
    course = Course(waiting, over, quiet, time.monotonic() - began)
    evidence = Evidence(load, await read_records(world.database), await world.listed(), world.deliveries())
    show(name, figures(evidence, course))
    broken += violations(evidence) + await load.repeat(REPEATED) + await load.once_more() + world.bugs()
    assert not broken, "\n".join(broken)


async def ends(tasks: set[asyncio.Task[None]], seconds: float, else_: str) -> list[str]:
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    return (
        [f"{else_} after {seconds:g} s"] if pending else [str(task.exception()) for task in tasks if task.exception()]
    )


async def comes(condition: Callable[[], Awaitable[bool]], seconds: float, else_: str) -> list[str]:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return [f"{else_} after {seconds:g} s"]
        await asyncio.sleep(LOOK_EVERY)
    return []


@pytest.mark.parametrize(
    ("name", "inject"),
    [
        ("front door killed", injections.kill_front_door),
        ("front door that owns the pods killed", injections.kill_owner),
        ("front door that owns the pods terminated", injections.terminate_owner),
        ("pods killed mid-turn", injections.kill_pods),
        ("Redis killed, back empty", injections.empty_redis),
        ("Redis stopped for 10 s", injections.stop_redis),
        ("database locked for 10 s", injections.lock_database),
    ],
)
async def test_nothing_acknowledged_is_lost(surroundings: World, name: str, inject: Injection):
    await endure(surroundings, name, inject)


async def test_clients_that_hang_up(surroundings: World):
    await endure(surroundings, "clients that hang up", injections.nothing, hang_up=0.5)


async def test_postgres_killed(surroundings_on_postgres: World):
    await endure(surroundings_on_postgres, "PostgreSQL killed and restarted", injections.kill_postgres)
