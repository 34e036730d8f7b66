"""The scaler keda: KEDA wakes sessions for external pushes, and never puts one to sleep."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import SCALED_OBJECTS
from tests.cluster.world import World, kubectl
from tests.waiting import until


@pytest.fixture
async def keda(world: World, keda_namespace: str) -> World:
    """Create a class with the scaler keda."""
    await world.make_class(scaler="keda")
    return world


async def test_an_external_push_wakes_the_pod(keda: World):
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


async def test_a_class_that_leaves_keda_leaves_nothing_of_it_behind(keda: World):
    session = await keda.make_session()
    await keda.until_phase(session, "Created")

    async def made() -> bool:
        return await keda.child(SCALED_OBJECTS, session) is not None

    await until(made, 30)
    before = await keda.awake(session)
    await keda.make_class(scaler="native")

    async def gone() -> bool:
        scalers = kubectl("-n", keda.namespace, "get", "scaledobjects,hpa", "-o", "name")
        return not scalers.strip()

    await until(gone, 60)
    assert await keda.published(session) == before
    await keda.asleep(session)


async def test_a_lost_list_ends_no_pod(keda: World):
    """Empty the list of an awake pod for longer than KEDA's polling interval."""
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


@asynccontextmanager
async def gone(seconds: int) -> AsyncIterator[None]:
    """Kill KEDA, and let it come back after at least this many seconds."""
    process = await asyncio.create_subprocess_exec(os.environ["LOCALKUBE"], "restart", "keda", str(seconds))

    async def dead() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", 8181)
        except OSError:
            return True
        writer.close()
        return False

    try:
        await until(dead, 20)
        yield
    finally:
        assert await process.wait() == 0


@pytest.mark.skipif("LOCALKUBE" not in os.environ, reason="KEDA of this cluster is not the test's to stop")
async def test_a_deleted_session_does_not_hang_without_keda(keda: World):
    session = await keda.make_session()
    name = names.child_name(session)

    async def taken() -> bool:
        found = await keda.child(SCALED_OBJECTS, session)
        return found is not None and names.KEDA_FINALIZER in found["metadata"].get("finalizers", ())

    await until(taken, 30)
    async with gone(40):
        kubectl("-n", keda.namespace, "delete", "session", session, "--wait=true")

        async def leaving() -> bool:
            found = await keda.child(SCALED_OBJECTS, session)
            return found is not None and "deletionTimestamp" in found["metadata"]

        await until(leaving, 20)

        async def left() -> bool:
            return await keda.child(SCALED_OBJECTS, session) is None

        await until(left, 38)
    removed = [json.loads(line) for line in keda.operator.log().splitlines() if "keda.finalizer_removed" in line]
    assert [each["object"] for each in removed] == [name]


async def reason(world: World, session: str) -> str:
    conditions = (await world.status(session)).get("conditions", ())
    return next((str(each["reason"]) for each in conditions if each["type"] == "Ready"), "")


@pytest.mark.skipif("LOCALKUBE" not in os.environ, reason="KEDA of this cluster is not the test's to remove")
async def test_keda_may_be_removed_and_installed_again(keda: World):
    session = await keda.make_session()

    async def watched(wanted: bool) -> bool:
        return (await keda.child(SCALED_OBJECTS, session) is not None) == wanted

    await until(lambda: watched(True), 30)
    definition = json.loads(kubectl("get", "crd", "scaledobjects.keda.sh", "-o", "json"))
    kubectl("delete", "crd", "scaledobjects.keda.sh", "--wait=true")
    try:

        async def said() -> bool:
            return await reason(keda, session) == "KedaMissing"

        await until(said, 30)
        assert await keda.awake(session)
        await keda.asleep(session)
    finally:
        body = {each: definition[each] for each in ("apiVersion", "kind", "spec")}
        metadata = {"name": definition["metadata"]["name"]}
        kubectl("create", "-f", "-", stdin=json.dumps({**body, "metadata": metadata}))
    await until(lambda: watched(True), 60)

    async def said_no_more() -> bool:
        return await reason(keda, session) == "WakesOnMessage"

    await until(said_no_more, 30)
    told = [event for event in keda.operator.log_events() if event.startswith("keda.")]
    assert told == ["keda.missing", "keda.found"]
