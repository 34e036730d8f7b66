"""Warm pods: ready pods without a session, claimed by sessions that wake."""

from __future__ import annotations

import signal
from typing import Any

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS
from tests.cluster.world import World, chat
from tests.waiting import until

SMALL = {"requests": {"cpu": "1m", "memory": "16Mi"}}


async def pool(world: World, *, ready: bool = True) -> set[str]:
    """Return the UIDs of the waiting pods."""
    pods, _ = await world.cluster.list(PODS, f"{names.WARM_LABEL}=default")
    return {pod["metadata"]["uid"] for pod in pods if not ready or _is_ready(pod)}


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def filled(world: World, size: int) -> set[str]:
    async def full() -> set[str]:
        found = await pool(world)
        return found if len(found) == size else set()

    found: set[str] = await until(full, 60)
    return found


async def test_a_session_gets_a_warm_pod_for_itself_and_the_pool_refills(world: World):
    await world.make_class(warm=2, resources=SMALL)
    waiting = await filled(world, 2)
    one, other = await world.make_session(), await world.make_session()
    first, second = await world.awake(one), await world.awake(other)
    assert {first.uid, second.uid} == waiting
    assert await chat(first, one, "hello") == {"reply": "You said: hello"}
    [pod] = await world.pods(one)
    [owner] = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Session", one, True)
    assert not await filled(world, 2) & waiting

    async def nothing_started() -> bool:
        deployment = await world.child(DEPLOYMENTS, one)
        return deployment is not None and deployment["spec"]["replicas"] == 0

    assert await nothing_started()
    await world.until_phase(one, "Awake")
    await world.asleep(one)
    again = await world.awake(one)
    assert again.uid != first.uid


async def test_a_session_without_a_warm_pod_to_claim_starts_its_own(world: World):
    await world.make_class(warm=1, resources=SMALL)
    await filled(world, 1)
    sessions = [await world.make_session() for _ in range(3)]
    for session in sessions:
        await world.wake(session)

    async def all_awake() -> bool:
        return all([await world.published(session) for session in sessions])

    await until(all_awake, 60)
    uids = [pod["metadata"]["uid"] for session in sessions for pod in await world.pods(session)]
    assert len(uids) == len(set(uids)) == 3


async def test_a_claimed_pod_survives_its_operator(world: World):
    await world.make_class(warm=1, resources=SMALL)
    await filled(world, 1)
    session = await world.make_session()
    await world.wake(session)

    async def claimed() -> bool:
        return bool(await world.pods(session))

    await until(claimed)
    world.operator.stop(signal.SIGKILL)
    world.operator.start()
    await until(lambda: world.operator.log_events().count("operator.running") == 2)
    address = await world.awake(session)
    assert [pod["metadata"]["uid"] for pod in await world.pods(session)] == [address.uid]


async def test_a_pool_follows_its_class(world: World):
    await world.make_class(warm=2, resources=SMALL)
    before = await filled(world, 2)
    await world.make_class(warm=1, resources=SMALL, env=[{"name": "NEW", "value": "1"}])

    async def renewed() -> bool:
        found = await pool(world)
        return len(found) == 1 and not found & before

    await until(renewed, 60)
    await world.make_class(resources=SMALL)

    async def empty() -> bool:
        return not await pool(world, ready=False)

    await until(empty, 60)
