"""Suspended sessions and sessions that are always on, over REST."""

from __future__ import annotations

import json

from session_manager.runtime.kubernetes.cluster import PODS
from tests.cluster.world import FrontDoorProcess, World, kubectl
from tests.waiting import until

SLOW = ["python3", "examples/slow/agent.py"]


def set_mode(world: World, session: str, mode: str) -> None:
    patch = json.dumps({"spec": {"mode": mode}})
    kubectl("-n", world.namespace, "patch", "session", session, "--type=merge", "-p", patch)


async def no_pod(world: World, session: str) -> bool:
    return not await world.pods(session)


async def message_is(door: FrontDoorProcess, session: str, message: str, status: str) -> bool:
    _, found = await door.ask("GET", f"/session/{session}/messages/{message}")
    return bool(found["status"] == status)


async def test_a_suspended_session_finishes_its_turn_and_keeps_its_queue(world: World, door: FrontDoorProcess):
    await world.make_class(command=SLOW)
    session = await door.create()
    await door.chat(session, "0")
    sent = [(await door.ask("POST", f"/session/{session}/chat", {"message": "3"}, Prefer="wait=0"))[1] for _ in "ab"]
    running, waiting = (each["message_id"] for each in sent)
    await until(lambda: message_is(door, session, running, "running"), 20)
    set_mode(world, session, "Suspended")
    more = []  # accepted before the watch notified the front door

    async def refused() -> bool:
        status, found = await door.ask("POST", f"/session/{session}/chat", {"message": "0"})
        more.extend([found["message_id"]] if status == 202 else [])
        return status == 409 and "suspended" in found["detail"]

    await until(refused, 20)
    assert (await door.ask("POST", f"/session/{session}/wake"))[0] == 409
    await until(lambda: message_is(door, session, running, "processed"), 20)
    await until(lambda: no_pod(world, session), 30)
    await world.until_phase(session, "Suspended")
    _, found = await door.ask("GET", f"/session/{session}")
    assert (found["status"], found["queue_length"]) == ("sleeping", 1 + len(more))
    assert await message_is(door, session, waiting, "queued")
    set_mode(world, session, "Auto")
    await until(lambda: message_is(door, session, waiting, "processed"), 60)


async def test_a_suspended_session_stays_asleep_when_everything_else_restarts(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()
    await door.chat(session, "one")
    set_mode(world, session, "Suspended")
    await until(lambda: no_pod(world, session), 30)
    world.operator.stop()
    door.stop()
    world.operator.start()
    await door.start()
    other = await door.create()
    await door.chat(other, "hello")
    assert await no_pod(world, session)
    assert (await door.ask("POST", f"/session/{session}/chat", {"message": "two"}))[0] == 409


async def test_a_session_that_is_always_on_does_not_sleep(world: World, door: FrontDoorProcess):
    await world.make_class(idleTimeoutSeconds=1, ttlSeconds=6)
    usual, always = await door.create(), await door.create()
    await door.until_status(always, "created")

    async def known() -> bool:
        return bool(await world.status(always))

    await until(known, 20)
    set_mode(world, always, "AlwaysOn")
    await door.until_status(always, "awake")
    [pod] = await world.pods(always)
    await door.until_status(usual, "expired")
    await door.chat(usual, "one")
    await door.until_status(usual, "expired")
    status, found = await door.ask("POST", f"/session/{always}/sleep")
    assert (status, "AlwaysOn" in found["detail"]) == (409, True)
    assert [each["metadata"]["uid"] for each in await world.pods(always)] == [pod["metadata"]["uid"]]
    await world.cluster.delete(PODS, pod["metadata"]["name"], uid=pod["metadata"]["uid"])

    async def another() -> bool:
        return any(each["metadata"]["uid"] != pod["metadata"]["uid"] for each in await world.pods(always))

    await until(another, 30)
    set_mode(world, always, "Auto")
    await door.until_status(always, "expired")
    await until(lambda: no_pod(world, always), 30)
