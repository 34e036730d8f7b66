"""kubectl and REST show a session that wakes, sleeps and fails: in its status, columns, Events and labels."""

from __future__ import annotations

import json
import signal

from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLASSES, DEPLOYMENTS, SESSIONS
from tests.cluster.world import FrontDoorProcess, Json, World, kubectl
from tests.waiting import until

NOWHERE: Json = {"template": {"nodeSelector": {"no": "such"}}, "probe": {"startupTimeoutSeconds": 40}}


def conditions(status: Json) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def events(world: World, name: str) -> dict[str, Json]:
    """Return the Events about an object by their reason."""
    words = ("get", "events", f"--field-selector=involvedObject.name={name}", "-o", "json")
    found = json.loads(kubectl("-n", world.namespace, *words))["items"]
    return {event["reason"]: event for event in found}


async def test_a_wake_that_takes_long_shows_the_words_of_the_scheduler(world: World, door: FrontDoorProcess):
    await world.make_class(**NOWHERE)
    session = await door.create()
    await door.ask("POST", f"/session/{session}/wake")
    status = await world.until_phase(session, "Waking")

    async def explained() -> Json | None:
        status = await world.status(session)
        return status if conditions(status)["Awake"] == ("False", "Unschedulable") else None

    status = await until(explained, 10)
    assert conditions(status)["Ready"] == ("False", "Unschedulable")
    assert "node(s) didn't match" in status["conditions"][1]["message"]
    _, found = await door.ask("GET", f"/session/{session}")
    assert found["status"] == "waking"
    assert found["phase"].startswith("Unschedulable: 0/")
    await world.make_class()
    await door.until_status(session, "failed")


async def test_the_events_of_a_session(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.awake(session)
    await world.until_phase(session, "Awake")
    await world.asleep(session)
    await world.until_phase(session, "Sleeping")
    await world.awake(session)
    await world.until_phase(session, "Awake")
    await until(lambda: events(world, session).get("Woken", {}).get("count") == 2, 20)
    assert events(world, session).keys() == {"Woken", "Slept"}
    kubectl("-n", world.namespace, "delete", "pod", "-l", f"{names.SESSION_LABEL}={session}", "--wait=false")
    await until(lambda: "PodDied" in events(world, session), 30)
    assert "Woken" in kubectl("-n", world.namespace, "describe", "session", session)


async def test_the_events_of_failures(world: World):
    await world.make_class(command=["python3", "-c", "raise SystemExit(3)"])
    session = await world.make_session()
    await world.failure(session)
    await until(lambda: "WakeFailed" in events(world, session), 20)
    found = events(world, session)["WakeFailed"]
    assert (found["type"], found["message"].partition(":")[0]) == ("Warning", "CrashedAtStart")
    await world.make_class("odd", resources={"requests": {"example.com/chip": "1"}})
    await until(lambda: "ClassInvalid" in events(world, "odd"), 20)


async def test_the_event_of_an_expiry(world: World, door: FrontDoorProcess):
    await world.make_class(ttlSeconds=2, idleTimeoutSeconds=1)
    session = await door.create()
    await door.chat(session, "one")
    await door.until_status(session, "expired")
    await until(lambda: "Expired" in events(world, session), 30)


async def test_sessions_are_selected_by_class_owner_and_phase(world: World, door: FrontDoorProcess):
    await world.make_class()
    session = await door.create(user="ann@example.com")
    await door.chat(session, "hello")
    await world.until_phase(session, "Awake")
    label = names.label_value("ann@example.com")

    def found(*words: str) -> list[str]:
        return kubectl("-n", world.namespace, "get", *words, "-o", "name").split()

    expected = [f"session.sessionmanager.dev/{session}"]
    assert found("sessions", "-l", f"{names.OWNER_LABEL}={label},{names.CLASS_LABEL}=default") == expected
    assert len(found("pods", "-l", f"{names.OWNER_LABEL}={label}")) == 1
    for field in ("spec.owner=ann@example.com", "spec.classRef.name=default", "spec.mode=Auto", "status.phase=Awake"):
        assert found("sessions", f"--field-selector={field}") == expected
    assert found("sessions", "--field-selector=status.phase=Sleeping") == []


async def test_a_class_shows_its_warm_pods(world: World):
    await world.make_class(warm=1, resources={"requests": {"cpu": "1m", "memory": "16Mi"}})

    async def filled() -> bool:
        status = (await world.cluster.get(CLASSES, "default")).get("status", {})
        return status.get("warm") == {"wanted": 1, "ready": 1}

    await until(filled, 60)
    heading, row = kubectl("-n", world.namespace, "get", "sessionclasses").splitlines()
    assert heading.split() == ["NAME", "READY", "REASON", "IMAGE", "WARM", "WARM", "READY", "AGE"]
    assert row.split()[1:3] + row.split()[4:6] == ["True", "Accepted", "1", "1"]


async def test_a_class_that_is_deleted_leaves_its_session_awake_until_it_sleeps(world: World):
    await world.make_class("short")
    session = await world.make_session("short")
    before = await world.awake(session, "short")
    await world.until_phase(session, "Awake")
    kubectl("-n", world.namespace, "delete", "sessionclass", "short")

    async def told() -> bool:
        status = await world.status(session)
        return (status["phase"], conditions(status)["Ready"]) == ("Awake", ("False", "ClassMissing"))

    await until(told, 20)
    assert conditions(await world.status(session))["Awake"] == ("True", "PodAnswers")
    assert await world.published(session) == before
    await world.asleep(session)
    await world.until_phase(session, "Failed")
    assert (await world.failure(session, "short")).reason == "ClassMissing"


async def replicas(world: World, session: str) -> int:
    found = await world.child(DEPLOYMENTS, session)
    return -1 if found is None else int(found["spec"]["replicas"])


async def test_more_replicas_are_taken_back_and_a_sleep_ends_every_pod(world: World):
    await world.make_class()
    session = await world.make_session()
    before = await world.awake(session)
    name = names.child_name(session)
    kubectl("-n", world.namespace, "scale", "deployment", name, "--replicas=3")

    async def one_left() -> bool:
        pods = [pod for pod in await world.pods(session) if "deletionTimestamp" not in pod["metadata"]]
        return await replicas(world, session) == 1 and len(pods) == 1

    await until(one_left, 30)
    assert await until(lambda: world.published(session), 30)
    world.operator.stop(signal.SIGKILL)
    kubectl("-n", world.namespace, "scale", "deployment", name, "--replicas=2")
    world.operator.start()
    assert before
    await until(lambda: world.operator.log_events().count("operator.running") == 2, 30)
    await world.awake(session)
    await world.asleep(session)
    assert await replicas(world, session) == 0


async def test_the_owner_is_shown(world: World):
    await world.make_class()
    session = await world.make_session()
    await world.until_created(session)
    resource = await world.cluster.get(SESSIONS, session)
    assert resource["spec"]["owner"] == "ann"
    heading, row = kubectl("-n", world.namespace, "get", "sessions").splitlines()
    assert heading.split() == ["NAME", "PHASE", "READY", "REASON", "CLASS", "OWNER", "LAST", "WAKE", "AGE"]
    assert row.split()[:6] == [session, "Created", "True", "NeverWoken", "default", "ann"]
