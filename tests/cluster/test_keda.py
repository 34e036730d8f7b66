"""The scaler keda: KEDA wakes for what somebody else pushed; it never puts to sleep."""

from __future__ import annotations

import json

import pytest

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import SCALED_OBJECTS
from tests.cluster.world import World, kubectl
from tests.servers.redis import RedisServer
from tests.waiting import until


@pytest.fixture
async def keda(world: World, own_redis: RedisServer) -> World:
    """A class that asks for KEDA, which may read the test's Redis."""
    if not await world.cluster.serves(SCALED_OBJECTS):
        pytest.skip("the cluster has no KEDA")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keda"}}
    target = {"parameter": "password", "name": "keda", "key": "password"}
    authentication = {
        "apiVersion": names.KEDA_API_VERSION,
        "kind": "TriggerAuthentication",
        "metadata": {"name": names.KEDA_AUTHENTICATION},
        "spec": {"secretTargetRef": [target]},
    }
    for body in ({**secret, "stringData": {"password": own_redis.password}}, authentication):
        kubectl("-n", world.namespace, "create", "-f", "-", stdin=json.dumps(body))
    await world.make_class(scaler="keda")
    return world


async def test_anybodys_push_wakes_the_pod(keda: World):
    session = await keda.make_session()
    await keda.until_phase(session, "Created")

    async def watched() -> bool:
        found = await keda.child(SCALED_OBJECTS, session)
        conditions = (found or {}).get("status", {}).get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    await until(watched, 30)
    await keda.link.execute("RPUSH", names.awake_list(session), "1")
    assert await until(lambda: keda.published(session), 60)
    assert session in await keda.activity.awake()


async def test_a_list_that_is_lost_costs_no_pod(keda: World):
    """The list emptied under an awake pod, longer than KEDA looks away."""
    session = await keda.make_session()
    before = await keda.awake(session)
    await keda.link.execute("DEL", names.awake_list(session))
    found = await keda.child(SCALED_OBJECTS, session)
    assert found is not None
    patch = json.dumps({"spec": {"pollingInterval": 1, "cooldownPeriod": 1}})
    kubectl("-n", keda.namespace, "patch", "scaledobject", names.child_name(session), "--type=merge", "-p", patch)

    async def inactive() -> bool:
        found = await keda.child(SCALED_OBJECTS, session)
        conditions = (found or {}).get("status", {}).get("conditions", ())
        return any(each["type"] == "Active" and each["status"] == "False" for each in conditions)

    await until(inactive, 60)
    assert await keda.published(session) == before
    await keda.asleep(session)


async def test_a_deleted_session_leaves_nothing_of_keda(keda: World):
    session = await keda.make_session()
    await keda.awake(session)
    kubectl("-n", keda.namespace, "delete", "session", session, "--wait=true")

    async def gone() -> bool:
        return await keda.child(SCALED_OBJECTS, session) is None and not await keda.pods(session)

    await until(gone, 60)
