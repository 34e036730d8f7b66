"""A volume per session: it survives sleep, and the class decides what happens after the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLAIMS, SESSIONS
from tests.cluster.volumes import volumes
from tests.cluster.world import FrontDoorProcess, World, chat, kubectl
from tests.waiting import until

COUNTER = ["python3", "examples/counter/agent.py"]


@pytest.fixture
def storage(world: World, tmp_path: Path) -> Any:
    """Return ``storage`` for a class: the cluster's default, or a folder of this machine if there is no default."""
    classes = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    if classes:
        yield {"size": "1Gi"}
        return
    name = f"volume-{world.namespace}"
    with volumes(tmp_path, name):
        yield {"size": "1Gi", "storageClassName": name}


async def test_files_of_a_pod_survive_sleep(world: World, storage: dict[str, Any]):
    await world.make_class(command=COUNTER, storage=storage)
    session = await world.make_session()
    first = await world.awake(session)
    assert (await chat(first, session, "one"))["in_home"] == 1
    await world.asleep(session)
    second = await world.awake(session)
    reply = await chat(second, session, "two")
    assert (reply["in_home"], reply["in_memory"]) == (2, 1)


async def test_a_volume_outlives_its_session_resource(world: World, storage: dict[str, Any]):
    await world.make_class(command=COUNTER, storage=storage)
    session = await world.make_session()
    await chat(await world.awake(session), session, "one")
    found = await world.cluster.get(SESSIONS, session)
    await world.cluster.delete(SESSIONS, session, uid=found["metadata"]["uid"])

    async def no_pod() -> bool:
        return not await world.pods(session)

    await until(no_pod, 60)
    await world.make_session(uuid=session)
    reply = await chat(await world.awake(session), session, "two")
    assert reply["in_home"] == 2


@pytest.mark.parametrize(("policy", "kept"), [("Delete", False), ("Keep", True)])
async def test_a_volume_is_deleted_with_its_session_if_the_class_says_so(
    world: World, door: FrontDoorProcess, storage: dict[str, Any], policy: str, kept: bool
):
    await world.make_class(command=COUNTER, storage={**storage, "onDelete": policy})
    session = await door.create()
    assert (await door.chat(session, "one"))["in_home"] == 1
    assert (await door.ask("DELETE", f"/session/{session}"))[0] == 200

    async def gone() -> bool:
        return not await world.pods(session) and await world.find(SESSIONS, session) is None

    await until(gone, 60)

    async def settled() -> bool:
        claim = await world.find(CLAIMS, names.child_name(session))
        return (claim is not None and "deletionTimestamp" not in claim["metadata"]) == kept

    await until(settled, 20)


@pytest.mark.parametrize(("policy", "kept"), [("Delete", False), ("Keep", True)])
async def test_a_volume_is_deleted_when_its_session_expires_if_the_class_says_so(
    world: World, door: FrontDoorProcess, storage: dict[str, Any], policy: str, kept: bool
):
    await world.make_class(
        command=COUNTER, storage={**storage, "onExpire": policy}, ttlSeconds=10, idleTimeoutSeconds=1
    )
    session = await door.create()
    assert (await door.chat(session, "one"))["in_home"] == 1
    before = await world.cluster.get(CLAIMS, names.child_name(session))
    await door.until_status(session, "expired")

    async def gone() -> bool:
        return not await world.pods(session) and await world.find(SESSIONS, session) is None

    await until(gone, 60)

    async def forgotten() -> bool:
        return not await world.activity.unforgotten()

    await until(forgotten, 20)
    claim = await world.find(CLAIMS, names.child_name(session))
    stays = claim is not None and "deletionTimestamp" not in claim["metadata"]
    assert stays == kept
    if kept:
        assert (await door.chat(session, "two"))["in_home"] == 2
        after = await world.cluster.get(CLAIMS, names.child_name(session))
        assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def test_a_volume_of_a_session_that_ended_without_an_operator(
    world: World, door: FrontDoorProcess, storage: dict[str, Any]
):
    await world.make_class(command=COUNTER, storage={**storage, "onDelete": "Delete"})
    session = await door.create()
    assert (await door.chat(session, "one"))["in_home"] == 1
    world.operator.stop()
    assert (await door.ask("DELETE", f"/session/{session}"))[0] == 200

    async def gone() -> bool:
        return not await world.pods(session) and await world.find(SESSIONS, session) is None

    await until(gone, 60)
    assert await world.find(CLAIMS, names.child_name(session)) is not None
    world.operator.start()

    async def no_claim() -> bool:
        return await world.find(CLAIMS, names.child_name(session)) is None

    await until(no_claim, 30)
