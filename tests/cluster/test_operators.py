"""Replacing the operator, and two operators at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import PODS
from tests.cluster.world import OperatorProcess, World, chat
from tests.servers.redis import RedisServer
from tests.waiting import until

AWAKE = 50
AT_ONCE = 10
SMALL = {"requests": {"cpu": "1m", "memory": "16Mi"}}  # fifty pods fit on a small node


async def awake_all(world: World, sessions: list[str]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def wake(session: str) -> None:
        async with gate:
            await world.awake(session)

    await asyncio.gather(*map(wake, sessions))


async def pods_of_all(world: World) -> dict[str, tuple[str, int]]:
    """Return for each session the uid of its only pod and the restarts of its container."""
    pods, _ = await world.cluster.list(PODS, names.SESSION_LABEL)
    found = {}
    for pod in pods:
        [container] = pod["status"]["containerStatuses"]
        session = pod["metadata"]["labels"][names.SESSION_LABEL]
        assert session not in found
        found[session] = (pod["metadata"]["uid"], container["restartCount"])
    return found


async def test_an_upgrade_of_the_operator_restarts_no_pod(world: World):
    """Start another version with other defaults while fifty sessions are awake."""
    await world.make_class(resources=SMALL)
    sessions = [await world.make_session() for _ in range(AWAKE)]
    await awake_all(world, sessions)
    before = await pods_of_all(world)
    assert before.keys() == set(sessions)
    world.operator.stop()
    world.operator.start(IDLE_TIMEOUT="90")
    await until(lambda: world.operator.log_events().count("operator.running") == 2)
    another = await world.make_session(owner="bob")  # for whom none of ann's pods makes room
    assert await chat(await world.awake(another), another, "hi") == {"reply": "You said: hi"}
    after = await pods_of_all(world)
    after.pop(another)
    assert after == before
    for session in sessions:
        assert await world.published(session)


@pytest.fixture
async def second(world: World, own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[OperatorProcess]:
    folder = tmp_path / "second"
    folder.mkdir()
    operator = OperatorProcess(world.namespace, own_redis.url, folder / "log")
    operator.start()
    await until(lambda: "operator.running" in operator.log_events(), 30)
    yield operator
    assert await asyncio.to_thread(operator.stop) == 0


async def test_two_operators_at_once_create_no_second_pod(world: World, second: OperatorProcess):
    """This happens for a moment during an upgrade, or if the operator is scaled up by mistake."""
    await world.make_class(resources=SMALL)
    sessions = [await world.make_session() for _ in range(6)]
    for _ in range(2):
        await awake_all(world, sessions)
        pods = await pods_of_all(world)
        assert pods.keys() == set(sessions)
        for session in sessions:
            address = await world.published(session)
            assert address is not None
            assert address.uid == pods[session][0]
            assert await chat(address, session, "hi") == {"reply": "You said: hi"}
        for session in sessions:
            await world.asleep(session)
    assert "scaler.failed" not in [*world.operator.log_events(), *second.log_events()]
