"""The life of a session in a cluster: create, wake, sleep, wake again, delete."""

from __future__ import annotations

from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, SERVICES, SESSIONS
from tests.cluster.world import World, chat
from tests.waiting import until

CHILDREN = (DEPLOYMENTS, SERVICES)


async def test_a_session_is_created_woken_put_to_sleep_woken_again_and_deleted(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    deployment, service = [await world.child(resource, session) for resource in CHILDREN]
    assert deployment is not None
    assert service is not None
    assert (deployment["spec"]["replicas"], await world.pods(session)) == (0, [])

    first = await world.awake(session)
    assert await chat(first, session, "hello") == {"reply": "You said: hello"}
    status = await world.until_phase(session, "Awake")
    assert status["podName"] == (await world.pods(session))[0]["metadata"]["name"]

    await world.asleep(session)
    status = await world.until_phase(session, "Sleeping")
    assert "podName" not in status
    second = await world.awake(session)
    assert second.uid != first.uid

    found = await world.cluster.get(SESSIONS, session)
    await world.cluster.delete(SESSIONS, session, uid=found["metadata"]["uid"])

    async def nothing_left() -> bool:
        left = [await world.child(resource, session) for resource in CHILDREN]
        return not any(left) and not await world.pods(session)

    await until(nothing_left, 60)
    assert await world.published(session) is None


async def test_a_session_that_is_deleted_and_created_again_works(world: World):
    await world.make_class()
    session = await world.make_session()
    first = await world.awake(session)
    found = await world.cluster.get(SESSIONS, session)
    await world.cluster.delete(SESSIONS, session, uid=found["metadata"]["uid"])
    await world.make_session(uuid=session)

    async def another() -> bool:
        await world.wake(session)
        address = await world.published(session)
        return address is not None and address.uid != first.uid

    await until(another, 60)


async def test_many_sessions_wake_at_once(world: World):
    await world.make_class(resources={"requests": {"cpu": "1m", "memory": "16Mi"}})
    sessions = [await world.make_session() for _ in range(6)]
    for session in sessions:
        await world.wake(session)

    async def all_published() -> bool:
        return all([await world.published(session) for session in sessions])

    await until(all_published, 90)
