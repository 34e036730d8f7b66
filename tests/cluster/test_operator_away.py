"""A front door stands in for the operator until it is back."""

from __future__ import annotations

import signal

import pytest

from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS
from tests.cluster.world import FrontDoorProcess, World
from tests.waiting import until


async def away(world: World, door: FrontDoorProcess) -> None:
    """Kill the operator, and wait until the front door has noticed."""
    already = door.log().count("deputy.begins")
    world.operator.stop(signal.SIGKILL)
    await until(lambda: door.log().count("deputy.begins") > already, 30)


async def back(world: World, door: FrontDoorProcess) -> None:
    already = door.log().count("deputy.ends")
    world.operator.start()
    await until(lambda: door.log().count("deputy.ends") > already, 30)


async def uids(world: World, session: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in await world.pods(session)}


@pytest.mark.parametrize("scaler", ["native", "keda"])
async def test_sessions_wake_answer_and_sleep_without_an_operator(
    world: World, door: FrontDoorProcess, scaler: str, request: pytest.FixtureRequest
):
    if scaler == "keda":
        request.getfixturevalue("keda_namespace")
    await world.make_class(scaler=scaler)
    awake, asleep = await door.create(), await door.create()
    for session in (awake, asleep):
        await door.chat(session, "one")
    await door.ask("POST", f"/session/{asleep}/sleep")
    await door.until_status(asleep, "sleeping")
    before = await uids(world, awake)
    await away(world, door)

    assert await door.chat(awake, "two") == {"reply": "You said: two"}
    assert await door.chat(asleep, "two") == {"reply": "You said: two"}
    assert (await door.ask("POST", f"/session/{awake}/sleep"))[0] == 200

    async def no_pod() -> bool:
        return not await world.pods(awake)

    await until(no_pod, 30)
    assert await door.chat(awake, "three") == {"reply": "You said: three"}
    assert await uids(world, awake) != before

    pods = {session: await uids(world, session) for session in (awake, asleep)}
    await back(world, door)
    assert await door.chat(awake, "four") == {"reply": "You said: four"}
    await door.ask("POST", f"/session/{asleep}/sleep")
    await door.until_status(asleep, "sleeping")
    assert await uids(world, awake) == pods[awake]
    assert await door.chat(asleep, "five") == {"reply": "You said: five"}


async def test_a_pod_that_ends_without_an_operator_is_replaced(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()
    await door.chat(session, "one")
    await away(world, door)
    [pod] = await world.pods(session)
    await world.cluster.delete(PODS, pod["metadata"]["name"], uid=pod["metadata"]["uid"])
    assert await door.chat(session, "two") == {"reply": "You said: two"}
    await back(world, door)
    assert await door.chat(session, "three") == {"reply": "You said: three"}


async def test_only_a_new_session_waits_for_the_operator(world: World, door: FrontDoorProcess):
    await world.make_class()
    await away(world, door)
    session = await door.create()
    status, found = await door.ask("POST", f"/session/{session}/chat", {"message": "one"})
    assert status == 202
    assert await world.child(DEPLOYMENTS, session) is None
    await back(world, door)
    message = f"/session/{session}/messages/{found['message_id']}"

    async def processed() -> bool:
        return (await door.ask("GET", message))[1]["status"] == "processed"

    await until(processed, 60)


async def test_a_warm_pod_sleeps_without_an_operator(world: World, door: FrontDoorProcess):
    await world.make_class(warm=1)

    async def warm() -> bool:
        deployment = await world.find(DEPLOYMENTS, "warm-default")
        return deployment is not None and deployment.get("status", {}).get("readyReplicas") == 1

    await until(warm, 60)
    session = await door.create()
    await door.chat(session, "one")
    claimed = await uids(world, session)
    await away(world, door)
    assert await door.chat(session, "two") == {"reply": "You said: two"}
    assert await uids(world, session) == claimed
    assert (await door.ask("POST", f"/session/{session}/sleep"))[0] == 200

    async def no_pod() -> bool:
        return not await world.pods(session)

    await until(no_pod, 30)
    assert await door.chat(session, "three") == {"reply": "You said: three"}
    await back(world, door)
    assert await door.chat(session, "four") == {"reply": "You said: four"}
    assert len(await world.pods(session)) == 1
