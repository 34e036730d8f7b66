"""Deployments of sessions that other writers have changed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import ApiInvalid, Cluster, Resource
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_operator import manifests
from session_operator.deployments import Deployments

Json = dict[str, Any]

SESSION = SessionSpec("8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "s", ClassSpec(SessionClass("default", image="agent:1")))
OTHER_CLASS = replace(SESSION, class_spec=ClassSpec(SessionClass("default", image="agent:2")))
OURS = {"manager": names.OPERATOR, "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}}
EDITED = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:minReadySeconds": {}}}}


def stored(replicas: int = 0, entries: Iterable[Json] = (OURS,)) -> Json:
    found = copy.deepcopy(manifests.new_deployment(SESSION))
    found["metadata"] |= {"uid": "d", "generation": 5, "resourceVersion": "9", "managedFields": list(entries)}
    found["spec"]["replicas"] = replicas
    return found


class Api(Cluster):
    """One Deployment. ``done``: what was done to it, in order."""

    def __init__(self, found: Json) -> None:
        super().__init__("people")
        self.found = found
        self.done: list[str] = []

    async def get(self, resource: Resource, name: str, subresource: str = "") -> Json:
        return copy.deepcopy(self.found)

    async def json_patch(self, resource: Resource, name: str, patch: Iterable[Json], manager: str) -> Json:
        for step in patch:
            if step["path"] == "/spec/replicas":
                self._replicas(step)
            elif step["path"] == "/metadata/managedFields":
                self.found["metadata"]["managedFields"] = step["value"]
                self.done.append("handed over")
        return copy.deepcopy(self.found)

    def _replicas(self, step: Json) -> None:
        if step["op"] == "test" and self.found["spec"]["replicas"] != step["value"]:
            raise ApiInvalid(422, "Invalid", "the test did not hold")
        if step["op"] == "replace":
            self.found["spec"]["replicas"] = step["value"]
            self.done.append(f"scaled to {step['value']}")

    async def apply(self, resource: Resource, body: Json, manager: str) -> Json:
        self.done.append(f"applied {body['spec']['template']['spec']['containers'][0]['image']}")
        self.found["spec"] |= body["spec"]
        self.found["metadata"]["annotations"] = body["metadata"]["annotations"]
        return copy.deepcopy(self.found)


def with_image(found: Json, image: str) -> Json:
    found["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return found


@pytest.mark.parametrize(
    ("found", "session", "done"),
    [
        (stored(), SESSION, []),
        (stored(replicas=1), SESSION, []),
        (stored(replicas=3), SESSION, ["scaled to 1"]),
        (with_image(stored(), "another:1"), SESSION, ["applied agent:1"]),
        (with_image(stored(replicas=1), "another:1"), SESSION, ["applied agent:1"]),
        (stored(replicas=1, entries=(OURS, EDITED)), SESSION, ["handed over", "applied agent:1"]),
        (with_image(stored(replicas=2), "another:1"), SESSION, ["applied agent:1", "scaled to 1"]),
        # The class has changed since the session was woken: its pod stays as it is until it sleeps.
        (stored(replicas=1), OTHER_CLASS, []),
        (stored(), OTHER_CLASS, ["applied agent:2"]),
        (stored(replicas=3), OTHER_CLASS, ["scaled to 1"]),
    ],
)
async def test_what_others_have_changed_is_corrected(found: Json, session: SessionSpec, done: list[str]):
    api = Api(copy.deepcopy(found))
    deployments = Deployments(api)
    deployments.seen(session.uuid, found)
    await deployments.ensure(session, repair=True)
    assert api.done == done
    live = deployments.live[session.uuid]
    assert live.replicas == min(found["spec"]["replicas"], 1)


async def test_without_a_change_by_others_nothing_is_read():
    api = Api(with_image(stored(), "another:1"))
    deployments = Deployments(api)
    deployments.seen(SESSION.uuid, api.found)
    await deployments.ensure(SESSION, repair=False)
    assert api.done == []


async def test_a_deployment_that_is_scaled_again_meanwhile_is_left_to_its_next_event():
    api = Api(stored(replicas=3))
    deployments = Deployments(api)
    live = deployments._remember(SESSION.uuid, stored(replicas=5))
    assert (await deployments._scale_to_one(SESSION.uuid, live)).replicas == 5
    assert api.done == []
