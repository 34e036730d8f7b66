"""Real faults under load, on real pods: nothing acknowledged is lost or doubled, and sleeping sessions stay asleep."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from session_manager.runtime.kubernetes import names
from tests.cluster.surroundings import ClusterWorld
from tests.cluster.world import kubectl
from tests.faults import injections
from tests.faults.endure import Injection, endure
from tests.faults.records import Database, PostgresDatabase, SqliteFile
from tests.servers.postgres import postgres_server
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults]

SEED = 21
AWAY = 8.0  # seconds; longer than the operator's heartbeat is valid


@asynccontextmanager
async def made(
    folder: Path, redis: RedisServer, database: Database, namespace: str, scaler: str = "native"
) -> AsyncIterator[ClusterWorld]:
    world = ClusterWorld(folder, redis, database, SEED, namespace, scaler)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest.fixture
async def surroundings(tmp_path: Path, own_redis: RedisServer, namespace: str) -> AsyncIterator[ClusterWorld]:
    async with made(tmp_path, own_redis, SqliteFile(tmp_path / "sessions.db"), namespace) as world:
        yield world


async def judged(world: ClusterWorld, name: str, inject: Injection[ClusterWorld]) -> None:
    await endure(world, f"on a cluster: {name}", inject)
    assert not await world.woken_bystanders()


async def kill_operator(world: ClusterWorld) -> None:
    world.operator.stop(signal.SIGKILL)
    await asyncio.sleep(AWAY)
    world.operator.start()


async def kill_front_door(world: ClusterWorld) -> None:
    """Kill it, and start a new one in its place, as a Deployment does."""
    await asyncio.to_thread(world.two.kill)
    await asyncio.sleep(1)
    await world.two.start()


async def kill_pods(world: ClusterWorld) -> None:
    """Kill all of them at once, without a warning, while most of them work."""
    words = ["delete", "pods", "-l", names.SESSION_LABEL, "--grace-period=0", "--force", "--wait=false"]
    await asyncio.to_thread(kubectl, "-n", world.namespace, *words)


async def drain_node(world: ClusterWorld) -> None:
    """Cordon and drain the node as before an update, and bring it back after a while."""
    node = kubectl("get", "nodes", "-l", "localkube/node!=kwok", "-o", "jsonpath={.items[0].metadata.name}")
    try:
        drain = ["drain", node, f"--pod-selector={names.SESSION_LABEL}", "--delete-emptydir-data", "--timeout=50s"]
        await asyncio.to_thread(kubectl, *drain)
        await asyncio.sleep(AWAY)
    finally:
        kubectl("uncordon", node)


@pytest.mark.parametrize(
    ("name", "inject"),
    [
        ("operator killed", kill_operator),
        ("front door killed", kill_front_door),
        ("Redis killed, back empty", injections.empty_redis),
        ("all session pods killed mid-turn", kill_pods),
        ("node cordoned and drained", drain_node),
    ],
)
async def test_nothing_acknowledged_is_lost(surroundings: ClusterWorld, name: str, inject: Injection[ClusterWorld]):
    await judged(surroundings, name, inject)


async def test_postgres_killed(tmp_path: Path, own_redis: RedisServer, namespace: str):
    with ThreadPoolExecutor(1) as thread, postgres_server("fsync=on") as server:
        async with made(tmp_path, own_redis, PostgresDatabase(server, thread), namespace) as world:
            await judged(world, "PostgreSQL killed and restarted", injections.kill_postgres)


# -- only on a cluster of this machine ------------------------------------------------------------------------------


@pytest.fixture
def localkube() -> str:
    """Return the program that can kill a part of the cluster."""
    if "LOCALKUBE" not in os.environ:
        pytest.skip("only on localkube can a part of the control plane be killed")
    return os.environ["LOCALKUBE"]


def killed(localkube: str, part: str, seconds: float) -> None:
    subprocess.run([localkube, "restart", part, f"{seconds:g}"], check=True, timeout=90, capture_output=True)


async def test_api_server_killed(surroundings: ClusterWorld, localkube: str):
    async def kill(world: ClusterWorld) -> None:
        await asyncio.to_thread(killed, localkube, "kube-apiserver", AWAY)

    await judged(surroundings, "API server killed", kill)


async def test_keda_killed(tmp_path: Path, own_redis: RedisServer, keda_namespace: str, localkube: str):
    async def kill(world: ClusterWorld) -> None:
        await asyncio.to_thread(killed, localkube, "keda", AWAY)

    async with made(tmp_path, own_redis, SqliteFile(tmp_path / "sessions.db"), keda_namespace, "keda") as world:
        await judged(world, "KEDA killed", kill)
