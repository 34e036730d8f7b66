"""End to end over REST: a front door, the operator, real pods."""

from __future__ import annotations

import signal
from uuid import uuid4

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, SERVICES, SESSIONS
from tests.cluster.world import FrontDoorProcess, World, kubectl
from tests.waiting import until


async def test_the_life_of_a_session_over_rest(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()

    async def children() -> bool:
        return all([await world.child(resource, session) for resource in (DEPLOYMENTS, SERVICES)])

    await until(children, 20)
    assert (await door.until_status(session, "created"))["ready_replicas"] == 0
    assert await door.chat(session, "hello") == {"reply": "You said: hello"}
    assert await door.chat(session, "again") == {"reply": "You said: again"}
    await door.until_status(session, "awake")
    status, found = await door.ask("GET", "/health")
    assert (status, found["kubernetes"]) == (200, "healthy")

    status, _ = await door.ask("POST", f"/session/{session}/sleep")
    assert status == 200
    await door.until_status(session, "sleeping")
    assert await door.chat(session, "awake?") == {"reply": "You said: awake?"}

    status, found = await door.ask("DELETE", f"/session/{session}")
    assert (status, found["status"]) == (200, "terminated")

    async def nothing_left() -> bool:
        left = [await world.child(resource, session) for resource in (DEPLOYMENTS, SERVICES)]
        return not any(left) and not await world.find(SESSIONS, session) and not await world.pods(session)

    await until(nothing_left, 60)
    assert (await door.ask("GET", f"/session/{session}"))[0] == 404


async def test_sessions_deleted_right_after_their_creation_leave_nothing(world: World, door: FrontDoorProcess):
    await world.make_class()
    for _ in range(15):
        await door.ask("DELETE", f"/session/{await door.create()}")

    async def none_left() -> bool:
        left, _ = await world.cluster.list(SESSIONS)
        return not left and door.log().count("resource.made") == 15

    await until(none_left, 30)


async def test_a_session_created_with_kubectl_is_adopted(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await world.make_session()
    found = await door.until_status(session, "created")
    assert (found["user_id"], found["class"]) == ("ann", "default")
    assert await door.chat(session, "hello") == {"reply": "You said: hello"}

    async def adopted() -> bool:
        resource = await world.find(SESSIONS, session)
        return resource is not None and names.INSTALL_LABEL in resource["metadata"].get("labels", {})

    await until(adopted)


async def test_kubectl_delete_removes_the_pod_and_keeps_the_conversation(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()
    await door.chat(session, "one")
    kubectl("-n", world.namespace, "delete", "session", session, "--wait=true")
    assert await door.chat(session, "two") == {"reply": "You said: two"}
    _, found = await door.ask("GET", f"/session/{session}/messages")
    assert [each["message"] for each in found["messages"]] == ["one", "two"]


async def test_an_expired_session_leaves_the_cluster_and_comes_back(world: World, door: FrontDoorProcess):
    await world.make_class(ttlSeconds=2, idleTimeoutSeconds=1)
    session = await door.create()
    await door.chat(session, "one")
    await door.until_status(session, "expired")

    async def away() -> bool:
        return await world.find(SESSIONS, session) is None and not await world.pods(session)

    await until(away, 30)
    assert await door.chat(session, "two") == {"reply": "You said: two"}


async def test_a_failed_start_is_reported_over_rest(world: World, door: FrontDoorProcess):
    await world.make_class(command=["python3", "-c", "raise SystemExit(3)"])
    session = await door.create()
    status, _ = await door.ask("POST", f"/session/{session}/wake")
    assert status == 200
    found = await door.until_status(session, "failed")
    assert found["reason"].startswith("CrashedAtStart")
    assert "exit code 3" in found["reason"]


async def test_messages_wait_for_an_operator_that_is_down(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()
    await door.chat(session, "one")
    world.operator.stop(signal.SIGKILL)
    status, found = await door.ask("POST", f"/session/{session}/chat", {"message": "two"})
    assert status in {200, 202}
    world.operator.start()
    message = f"/session/{session}/messages/{found['message_id']}"

    async def processed() -> bool:
        return (await door.ask("GET", message))[1]["status"] == "processed"

    await until(processed, 60)
    await until(lambda: world.operator.log_events().count("operator.running") == 2, 20)


async def test_a_front_door_that_is_killed_loses_no_message(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create()
    status, found = await door.ask("POST", f"/session/{session}/chat", {"message": "one"})
    assert status == 202
    door.stop(signal.SIGKILL)
    await door.start()
    message = f"/session/{session}/messages/{found['message_id']}"

    async def processed() -> bool:
        return (await door.ask("GET", message))[1]["status"] == "processed"

    await until(processed, 60)


async def test_an_unknown_class_is_rejected(world: World, door: FrontDoorProcess):
    status, found = await door.ask("POST", "/session/create", {"user_id": "ann", "class": "nope"})
    assert status == 400
    assert "unknown class 'nope'" in found["detail"]
    assert (await door.ask("GET", f"/session/{uuid4()}"))[0] == 404
