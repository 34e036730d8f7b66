"""Real faults, under load, at the real time-outs: nothing that was acknowledged is lost, doubled or out of order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import injections
from tests.faults.endure import Injection, endure
from tests.faults.records import PostgresDatabase, SqliteFile
from tests.faults.world import World, world
from tests.servers.postgres import postgres_server
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SEED = 20


@pytest.fixture
async def surroundings(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[World]:
    async with world(tmp_path, own_redis, SqliteFile(tmp_path / "sessions.db"), SEED) as made:
        yield made


@pytest.fixture
async def surroundings_on_postgres(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[World]:
    with ThreadPoolExecutor(1) as thread, postgres_server("fsync=on") as server:
        async with world(tmp_path, own_redis, PostgresDatabase(server, thread), SEED) as made:
            yield made


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
async def test_nothing_acknowledged_is_lost(surroundings: World, name: str, inject: Injection[World]):
    await endure(surroundings, name, inject)


async def test_clients_that_hang_up(surroundings: World):
    await endure(surroundings, "clients that hang up", injections.nothing, hang_up=0.5)


async def test_postgres_killed(surroundings_on_postgres: World):
    await endure(surroundings_on_postgres, "PostgreSQL killed and restarted", injections.kill_postgres)
