"""Changes by people: the class, the mode, the children."""

from __future__ import annotations

import json

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLASSES, DEPLOYMENTS, SERVICES, SESSIONS
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import parse_class
from session_operator.fields import differs
from session_operator.manifests import deployment
from tests.cluster.world import World, kubectl
from tests.waiting import until


def greeting(value: str) -> list[dict[str, str]]:
    return [{"name": "GREETING", "value": value}]


async def greeting_of(world: World, session: str) -> str:
    [pod] = await world.pods(session)
    [container] = pod["spec"]["containers"]
    return next(each["value"] for each in container["env"] if each["name"] == "GREETING")


async def test_a_changed_class_reaches_a_session_at_its_next_wake(world: World):
    await world.make_class(env=greeting("old"))
    session = await world.make_session()
    before = await world.awake(session)
    await world.make_class(env=greeting("new"))
    other = await world.make_session()
    await world.awake(other)
    assert await greeting_of(world, other) == "new"
    assert await world.published(session) == before
    assert await greeting_of(world, session) == "old"
    await world.asleep(session)
    await world.awake(session)
    assert await greeting_of(world, session) == "new"


async def test_a_field_removed_from_the_class_is_gone_from_the_next_pod(world: World):
    await world.make_class(env=greeting("hello"))
    session = await world.make_session()
    await world.awake(session)
    await world.asleep(session)
    await world.make_class()
    await world.awake(session)
    [pod] = await world.pods(session)
    assert "GREETING" not in json.dumps(pod["spec"])


async def test_the_stored_objects_do_not_differ_from_the_desired_ones(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    class_spec = parse_class(await world.cluster.get(CLASSES, "default"), 120, 86_400)
    uid = (await world.cluster.get(SESSIONS, session))["metadata"]["uid"]
    live = await world.child(DEPLOYMENTS, session)
    wanted = deployment(SessionSpec(session, uid, class_spec, owner="ann"))
    assert not differs(wanted, live)
    wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    assert differs(wanted, live)


async def test_a_deleted_child_is_created_again(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    for resource, kind in ((SERVICES, "service"), (DEPLOYMENTS, "deployment")):
        before = await world.child(resource, session)
        assert before is not None
        kubectl("-n", world.namespace, "delete", kind, names.child_name(session))

        async def back(resource=resource, uid=before["metadata"]["uid"]) -> bool:
            found = await world.child(resource, session)
            return found is not None and found["metadata"]["uid"] != uid

        await until(back, 20)
    assert await world.awake(session)


async def test_a_changed_child_is_repaired_while_its_session_sleeps(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    name = names.child_name(session)
    kubectl("-n", world.namespace, "set", "image", f"deployment/{name}", "agent=another:1")

    async def repaired() -> bool:
        found = await world.child(DEPLOYMENTS, session)
        return found is not None and found["spec"]["template"]["spec"]["containers"][0]["image"] != "another:1"

    await until(repaired, 20)
    assert await world.awake(session)


async def test_only_the_scaler_owns_replicas(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.awake(session)
    await world.asleep(session)
    found = json.loads(
        kubectl(
            "-n", world.namespace, "get", "deployment", names.child_name(session), "-o", "json", "--show-managed-fields"
        )
    )
    owners = {
        entry["manager"]
        for entry in found["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners == {names.SCALER}


async def test_a_suspended_session_does_not_wake_until_its_mode_changes(world: World):
    await world.make_class()
    session = await world.make_session(mode="Suspended")
    await world.until_phase(session, "Suspended")

    async def refused() -> bool:
        await world.wake(session)
        failure = (await world.activity.hot(session)).failure
        return failure is not None and failure.reason == "Suspended"

    await until(refused, 20)
    kubectl("-n", world.namespace, "patch", "session", session, "--type=merge", "-p", '{"spec": {"mode": "Auto"}}')
    await world.until_created(session)
    await world.wake(session)
    assert await until(lambda: world.published(session), 30)


async def test_an_awake_session_that_is_suspended_goes_to_sleep(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.awake(session)
    kubectl("-n", world.namespace, "patch", "session", session, "--type=merge", "-p", '{"spec": {"mode": "Suspended"}}')

    async def no_pod() -> bool:
        return not await world.pods(session)

    await until(no_pod, 30)
    await world.until_phase(session, "Suspended")
