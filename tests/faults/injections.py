"""The faults. Each returns when the surroundings are restored, except for a killed process."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from contextlib import suppress

import psutil

from tests.faults.records import PostgresDatabase, SqliteFile
from tests.faults.world import World
from tests.waiting import until

OUTAGE = 10.0  # seconds
KILLS_WITHIN = 30.0


async def kill_front_door(world: World) -> None:
    """Kill the front door that does not own the pods."""
    await asyncio.to_thread(world.two.kill)


async def kill_owner(world: World) -> None:
    """Kill the front door that owns the pods. The other one takes over."""
    await asyncio.to_thread(world.one.kill)
    await until(world.two.owns_pods, 60)


async def terminate_owner(world: World) -> None:
    """Send SIGTERM to the owner of the pods. It finishes its turns and ends."""
    world.one.terminate()
    assert await world.one.gone() == 0
    await until(world.two.owns_pods, 60)


async def kill_pods(world: World) -> None:
    """Kill the pod of every session once, while it works on a message."""
    left = set(world.sessions)
    deadline = time.monotonic() + KILLS_WITHIN
    while left and time.monotonic() < deadline:
        left -= {session for session in left if _kill_at_work(world, session)}
        await asyncio.sleep(0.005)
    assert not left, f"the pods of {len(left)} sessions were never seen at work"


def _kill_at_work(world: World, session: str) -> bool:
    deliveries = world.deliveries_of(session)
    if not deliveries or deliveries[-1].end is not None:
        return False
    with suppress(psutil.NoSuchProcess):
        pod = psutil.Process(deliveries[-1].pid)
        if pod.cwd() == str(world.home(session)):
            pod.kill()
            return world.deliveries_of(session)[-1].end is None
    return False


async def empty_redis(world: World) -> None:
    """Kill Redis and start it again, empty."""
    await asyncio.to_thread(world.redis.kill)
    world.redis.empty()
    await asyncio.to_thread(world.redis.start)


async def stop_redis(world: World) -> None:
    """Suspend Redis: connections stay open, and nothing answers."""
    world.redis.signal(signal.SIGSTOP)
    await asyncio.sleep(OUTAGE)
    world.redis.signal(signal.SIGCONT)


async def lock_database(world: World) -> None:
    """Hold the write lock of the database for a long time, as another process."""
    assert isinstance(world.database, SqliteFile)
    connection = sqlite3.connect(world.database.path, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(OUTAGE)
        connection.execute("ROLLBACK")
    finally:
        connection.close()


async def kill_postgres(world: World) -> None:
    """Kill PostgreSQL and start it again on its data."""
    assert isinstance(world.database, PostgresDatabase)
    await world.database.kill_and_restart()


async def nothing(world: World) -> None:
    """Do nothing: the clients that hang up are the fault."""
