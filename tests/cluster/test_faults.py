"""Crashes, restarts and races."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS
from session_manager.runtime.protocol import PodAddress
from tests.cluster.world import CLASS, World, chat, kubectl
from tests.waiting import until

CRASHER = ["python3", "examples/crasher/agent.py"]


async def replaced(world: World, session: str, old: PodAddress) -> PodAddress:
    """Return the address of another pod of a session that is still wanted."""

    async def another() -> PodAddress | None:
        await world.wake(session)
        found = await world.published(session)
        return found if found is not None and found.uid != old.uid else None

    found: PodAddress = await until(another, 60)
    return found


async def test_an_operator_that_is_killed_costs_an_awake_session_nothing(world: World):
    await world.make_class()
    session, asleep = await world.make_session(), await world.make_session()
    before = await world.awake(session)
    world.operator.stop(signal.SIGKILL)
    assert await chat(before, session, "still there?") == {"reply": "You said: still there?"}
    await world.wake(asleep)
    world.operator.start()
    assert await world.awake(asleep)
    assert await world.published(session) == before
    [pod] = await world.pods(session)
    assert pod["metadata"]["uid"] == before.uid
    await world.asleep(session)


async def test_an_operator_that_is_killed_during_a_wake_finishes_it(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    await world.wake(session)

    async def woken() -> bool:
        deployment = await world.child(DEPLOYMENTS, session)
        return deployment is not None and deployment["spec"]["replicas"] == 1

    await until(woken)
    world.operator.stop(signal.SIGKILL)
    world.operator.start()
    assert await world.awake(session)
    assert len(await world.pods(session)) == 1


async def test_an_operator_that_is_replaced_during_a_wake_lets_the_pod_start(world: World):
    await world.make_class(command=["sh", "-c", "sleep 4; exec python3 examples/echo/agent.py"])
    session = await world.make_session()
    await world.until_created(session)
    await world.wake(session)

    async def begun() -> str | None:
        pods = await world.pods(session)
        return pods[0]["metadata"]["uid"] if pods and pods[0]["status"].get("podIP") else None

    uid = await until(begun, 20)
    assert world.operator.stop() == 0
    world.operator.start()
    assert (await world.awake(session)).uid == uid


async def test_a_restart_rewrites_nothing_that_is_right(world: World):
    await world.make_class()
    session = await world.make_session()
    address = await world.awake(session)
    await world.until_phase(session, "Awake")
    before = await world.child(DEPLOYMENTS, session)
    world.operator.stop()
    world.operator.start(IDLE_TIMEOUT="90")
    await until(lambda: world.operator.log_events().count("operator.running") == 2)
    other = await world.make_session()
    await world.until_phase(other, "Created")
    after = await world.child(DEPLOYMENTS, session)
    assert before is not None
    assert after is not None
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert await world.published(session) == address


async def test_a_pod_that_is_deleted_is_replaced(world: World):
    await world.make_class()
    session = await world.make_session()
    before = await world.awake(session)
    [pod] = await world.pods(session)
    await world.cluster.delete(PODS, pod["metadata"]["name"], uid=before.uid)
    after = await replaced(world, session, before)
    assert await chat(after, session, "hi") == {"reply": "You said: hi"}


async def test_a_pod_whose_program_dies_is_replaced_by_another(world: World):
    await world.make_class(command=CRASHER)
    session = await world.make_session()
    before = await world.awake(session)
    with suppress(OSError):
        await chat(before, session, "die")
    after = await replaced(world, session, before)
    assert await chat(after, session, "hi") == {"reply": "Alive, at attempt 1"}


async def test_a_wake_during_going_to_sleep_is_answered(world: World):
    await world.make_class()
    session = await world.make_session()
    for _ in range(3):
        before = await world.awake(session)
        assert await world.activity.fence(session, CLASS, force=True) == "PASSED"
        after = await world.awake(session)
        assert after.uid != before.uid
        assert await chat(after, session, "hi") == {"reply": "You said: hi"}


async def test_a_late_sleep_does_not_end_a_session_woken_since(world: World):
    """Send the patch of a sleep that was meant for an earlier wake."""
    await world.make_class()
    session = await world.make_session()
    await world.awake(session)
    name = names.child_name(session)
    patch = [
        {"op": "test", "path": "/metadata/annotations/sessionmanager.dev~1wake", "value": "an earlier wake"},
        {"op": "replace", "path": "/spec/replicas", "value": 0},
    ]
    answer = await asyncio.to_thread(
        kubectl,
        "-n",
        world.namespace,
        "patch",
        "deployment",
        name,
        "--type=json",
        "-p",
        str(patch).replace("'", '"'),
        check=False,
    )
    assert "the server rejected our request" in answer or "test operation" in answer.lower()
    deployment = await world.child(DEPLOYMENTS, session)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 1


async def test_a_stray_deployment_is_ended(world: World):
    world.operator.stop()
    world.operator.start(STRAY_AFTER="2")
    await world.make_class(template={"nodeSelector": {"nowhere": "true"}})
    session = await world.make_session()
    await world.until_created(session)
    kubectl("-n", world.namespace, "scale", "deployment", names.child_name(session), "--replicas=1")

    async def pods(wanted: int) -> bool:
        return len(await world.pods(session)) == wanted

    await until(lambda: pods(1), 20)
    await until(lambda: pods(0), 30)
    deployment = await world.child(DEPLOYMENTS, session)
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 0
    assert "stray.ended" in world.operator.log_events()


async def test_a_pod_that_was_scaled_up_externally_and_answers_sleeps_like_any_other(world: World):
    await world.make_class(idleTimeoutSeconds=2)
    session = await world.make_session()
    await world.until_created(session)
    kubectl("-n", world.namespace, "scale", "deployment", names.child_name(session), "--replicas=1")
    await world.until_phase(session, "Awake")
    await world.until_phase(session, "Sleeping")
