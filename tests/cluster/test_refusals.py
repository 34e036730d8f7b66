"""Classes that the API server refuses, whatever the reason, and a webhook that does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager.runtime.kubernetes.cluster import CLASSES
from tests.cluster.world import Json, World, kubectl
from tests.waiting import until

ADMISSION = "admissionregistration.k8s.io/v1"
UNEQUAL = {"requests": {"example.com/chip": "1"}, "limits": {"example.com/chip": "2"}}


async def until_verdict(world: World, status: str) -> Json:
    """Return the condition Ready of the class once it has this status."""

    async def reached() -> Json | None:
        conditions = (await world.cluster.get(CLASSES, "default")).get("status", {}).get("conditions", [])
        return next((each for each in conditions if (each["type"], each["status"]) == ("Ready", status)), None)

    found: Json = await until(reached, 30)
    return found


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"resources": UNEQUAL}, "must be equal to example.com/chip limit"),
        ({"template": {"affinity": {"nodeAffinity": "here"}}}, "cannot unmarshal string"),
        ({"template": {"annotations": {"k8s.v1.cni.cncf.io/networks": "x"}}}, "k8s.v1.cni.cncf.io/networks"),
    ],
)
async def test_a_refused_class_and_its_sessions_say_why(world: World, spec: Json, words: str):
    await world.make_class(**spec)
    assert words in (await until_verdict(world, "False"))["message"]
    sessions = [await world.make_session() for _ in range(5)]
    for session in sessions:
        status = await world.until_phase(session, "Failed")
        assert {each["reason"] for each in status["conditions"]} == {"ClassInvalid"}
        assert words in status["conditions"][0]["message"]
    failures = await asyncio.gather(*(world.failure(session) for session in sessions))
    assert {failure.reason for failure in failures} == {"ClassInvalid"}
    assert all(words in failure.remedy for failure in failures)
    assert "Traceback" not in world.operator.log()
    assert world.operator.log_events().count("class.refused") == 1
    await world.make_class()
    assert (await until_verdict(world, "True"))["reason"] == "Accepted"
    await world.until_created(sessions[0])
    await world.wake(sessions[0])
    assert await until(lambda: world.published(sessions[0]), 30)


@asynccontextmanager
async def admission(world: World, kind: str, body: Json) -> AsyncIterator[None]:
    """Keep an admission rule for the namespace of the test."""
    name = f"{world.namespace}.example.com"
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": ADMISSION, "kind": kind, **body}))
    try:
        yield
    finally:
        kubectl("delete", kind, name, "--ignore-not-found")


def only(world: World) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}


RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}


async def test_a_policy_that_refuses_the_class_until_it_is_removed(world: World):
    name = f"{world.namespace}.example.com"
    constraints = {"namespaceSelector": only(world), "resourceRules": [RULE]}
    policy = {
        "metadata": {"name": name},
        "spec": {"matchConstraints": constraints, "validations": [{"expression": "false", "message": "not signed"}]},
    }
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    async with admission(world, "ValidatingAdmissionPolicy", policy):
        async with admission(world, "ValidatingAdmissionPolicyBinding", binding):

            async def refused() -> Any:
                await world.make_class(env=[{"name": "TRY", "value": str(asyncio.get_running_loop().time())}])
                return (await until_verdict(world, "False"))["message"]

            assert "not signed" in await refused()
            session = await world.make_session()
            await world.until_phase(session, "Failed")
        await until_verdict(world, "True")
        assert await world.awake(session)


async def test_a_wake_waits_for_a_webhook_that_does_not_answer_and_shows_its_words(world: World):
    await world.make_class()
    await until_verdict(world, "True")
    session = await world.make_session()
    await world.until_created(session)
    webhook = {
        "name": f"{world.namespace}.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/never"},
        "rules": [RULE],
        "namespaceSelector": only(world),
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "failurePolicy": "Fail",
    }
    body = {"metadata": {"name": webhook["name"]}, "webhooks": [webhook]}
    async with admission(world, "ValidatingWebhookConfiguration", body):

        async def broken() -> bool:
            words = ("create", "deployment", "x", "--image=x", "--dry-run=server")
            return "failed calling webhook" in kubectl("-n", world.namespace, *words, check=False)

        await until(broken, 30)
        await world.wake(session)
        status = await world.until_phase(session, "Waking")
        assert status["conditions"][1]["reason"] == "ApiBroken"
        assert "failed calling webhook" in status["conditions"][1]["message"]
        assert "failed calling webhook" in (await world.activity.hot(session)).phase
    assert await until(lambda: world.published(session), 60)
    assert "Traceback" not in world.operator.log()
