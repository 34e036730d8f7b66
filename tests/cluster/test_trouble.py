"""Callers and the status of the Session show the trouble of pods as a reason and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.world import World, kubectl
from tests.waiting import until

CRASHER = ["python3", "examples/crasher/agent.py"]
SECRET = {"secretKeyRef": {"name": "keys", "key": "a"}}


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"image": "localhost:1/none:1"}, "ImagePullFailed", "pull secrets"),
        ({"image": "Not An Image"}, "ImageNameInvalid", "fix the image name"),
        ({"command": ["python3", "-c", "raise SystemExit(3)"]}, "CrashedAtStart", "exit code 3"),
        ({"command": ["no-such-program"]}, "CommandNotRunnable", "check the command"),
        ({"env": [{"name": "A", "valueFrom": SECRET}]}, "ConfigMissing", 'secret "keys" not found'),
        ({"probe": {"path": "/never", "startupTimeoutSeconds": 4}}, "NeverReady", "GET /never"),
        (
            {"template": {"nodeSelector": {"no": "such"}}, "probe": {"startupTimeoutSeconds": 3}},
            "Unschedulable",
            "add a node",
        ),
        ({"template": {"priorityClassName": "nope"}}, "PriorityClassMissing", "create the PriorityClass"),
        ({"envFrom": [{"secretRef": {"name": "other"}}]}, "ClassInvalid", "may not use the Secrets other"),
    ],
)
async def test_a_start_that_fails(world: World, spec: dict[str, Any], reason: str, words: str):
    await world.make_class(**spec)
    session = await world.make_session()
    failure = await world.failure(session)
    assert (failure.reason, failure.tries) == (reason, 1)
    assert words in failure.remedy
    status = await world.until_phase(session, "Failed")
    ready = next(each for each in status["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert words in ready["message"]


async def test_a_quota(world: World):
    kubectl("-n", world.namespace, "create", "quota", "small", "--hard=pods=0")
    await world.make_class()
    failure = await world.failure(await world.make_session())
    assert failure.reason == "QuotaExceeded"
    assert "exceeded quota: small" in failure.remedy


async def test_a_session_without_its_class_fails_and_works_once_the_class_exists(world: World):
    session = await world.make_session("later")
    status = await world.until_phase(session, "Failed")
    assert status["conditions"][0]["reason"] == "ClassMissing"
    await world.make_class("later")
    await world.until_created(session)
    assert await world.awake(session, "later")


async def test_a_failed_session_works_after_the_fix(world: World):
    await world.make_class(command=CRASHER, env=[{"name": "CRASH_AT_START", "value": "1"}])
    session = await world.make_session()
    assert (await world.failure(session)).reason == "CrashedAtStart"
    await world.make_class(command=CRASHER)

    async def fixed() -> Any:
        await world.wake(session)
        return await world.published(session)

    assert await until(fixed, 30)
    await world.until_phase(session, "Awake")
