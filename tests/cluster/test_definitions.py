"""The definitions on a real API server: accepted and rejected objects, error texts, and the output of kubectl."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.world import kubectl
from tests.servers import crds

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
SECRET = {"secretKeyRef": {"name": "keys", "key": "a"}}


def manifest(kind: str, name: str, **spec: Any) -> str:
    body = {"apiVersion": "sessionmanager.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return json.dumps(body)


def rejected(namespace: str, text: str) -> str:
    answer = kubectl("-n", namespace, "create", "-f", "-", stdin=text, check=False)
    assert "created" not in answer
    return answer


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.image: Required value"),
        ({"image": ""}, "spec.image"),
        ({"image": "x", "port": 0}, "spec.port"),
        ({"image": "x", "protocol": "grpc"}, 'supported values: "http", "adk"'),
        ({"image": "x", "warm": 1, "storage": {"size": "1Gi"}}, "a class with storage cannot keep warm pods"),
        ({"image": "x", "env": [{"name": "PORT", "value": "1"}]}, "are set by the session manager"),
        ({"image": "x", "env": [{"name": "A"}, {"name": "A"}]}, "Duplicate value"),
        (
            {
                "image": "x",
                "env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            },
            "either a value or valueFrom",
        ),
        ({"image": "x", "template": {"labels": {"sessionmanager.dev/session": "x"}}}, "set by the session manager"),
        ({"image": "x", "template": {"annotations": {"sessionmanager.dev/wake": "x"}}}, "set by the session manager"),
        ({"image": "x", "template": {"hostNetwork": True}}, 'unknown field "spec.template.hostNetwork"'),
        ({"image": "x", "storage": {"size": "a lot"}}, "spec.storage.size"),
        ({"image": "x", "storage": {"size": "1Gi", "storageClassName": ""}}, "spec.storage.storageClassName"),
        ({"image": "x", "env": [{"name": "A B=C", "value": "1"}]}, "spec.env[0].name"),
        ({"image": "x", "resources": {"limits": {"memory": "much"}}}, "spec.resources.limits"),
        ({"image": "x", "resources": {"limits": {"cpu": "-1"}}}, "spec.resources.limits"),
        ({"image": "x", "resources": {"limits": {"cpu": -1}}}, "spec.resources.limits"),
        (
            {"image": "x", "resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "512Mi"}}},
            "a request is at most its limit",
        ),
        ({"image": "x", "resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}, "at most its limit"),
        ({"image": "x", "resources": {"requests": {"ram": "1Gi"}}}, "resources are cpu, memory, ephemeral-storage"),
    ],
)
def test_a_rejected_class(namespace: str, spec: dict[str, Any], words: str):
    assert words in rejected(namespace, manifest("SessionClass", "bad", **spec))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"labels": {"a/b/c": "x"}}, "a key has at most 63 letters"),
        ({"labels": {"team": "two words"}}, "spec.template.labels.team"),
        ({"annotations": {"not a key": "x"}}, "a key has at most 63 letters"),
        ({"nodeSelector": {"a/b/c": "x"}}, "a key has at most 63 letters"),
        ({"tolerations": [{"operator": "Exists"}]}, "spec.template.tolerations[0].key: Required"),
        (
            {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
            "sessions do not run on the nodes of the control plane",
        ),
        ({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}, "has no value"),
        ({"tolerations": [{"key": "a", "tolerationSeconds": 5}]}, "needs the effect NoExecute"),
        ({"priorityClassName": "system-node-critical"}, "evict the cluster's own pods"),
    ],
)
def test_a_rejected_template(namespace: str, template: dict[str, Any], words: str):
    assert words in rejected(namespace, manifest("SessionClass", "bad", image="x", template=template))


def test_a_class_with_everything(namespace: str):
    spec: dict[str, Any] = {
        "image": "x",
        "resources": {
            "requests": {"cpu": "0.5", "memory": "1e3", "hugepages-2Mi": "2Mi"},
            "limits": {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1, "hugepages-2Mi": "2Mi"},
        },
        "template": {
            "labels": {"team": "a", "example.com/team": ""},
            "annotations": {"example.com/note": "any text"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "low",
        },
    }
    text = manifest("SessionClass", "rich", **spec)
    assert "created" in kubectl("-n", namespace, "create", "-f", "-", stdin=text)


def test_a_class_gets_its_defaults(namespace: str):
    kubectl("-n", namespace, "create", "-f", "-", stdin=manifest("SessionClass", "plain", image="x"))
    found = json.loads(kubectl("-n", namespace, "get", "sessclass", "plain", "-o", "json"))["spec"]
    assert found == {
        "image": "x",
        "port": 1111,
        "protocol": "http",
        "probe": {"path": "/health", "startupTimeoutSeconds": 60, "intervalSeconds": 0.05, "timeoutSeconds": 1},
        "turnTimeoutSeconds": 600,
        "gracePeriodSeconds": 5,
        "redelivery": "replace",
        "appState": "read",
        "warm": 0,
    }


@pytest.mark.parametrize("name", ["nope", UUID.replace("-4a5e-", "-1a5e-"), UUID.replace("-9d38-", "-cd38-")])
def test_a_session_is_called_after_its_uuid(namespace: str, name: str):
    assert "the name of a Session is its uuid" in rejected(namespace, manifest("Session", name, owner="ann"))


def test_a_session_needs_an_owner(namespace: str):
    assert "spec.owner: Required value" in rejected(namespace, manifest("Session", UUID))


def test_owner_and_class_of_a_session_stay(namespace: str):
    kubectl("-n", namespace, "create", "-f", "-", stdin=manifest("Session", UUID, owner="ann"))
    found = json.loads(kubectl("-n", namespace, "get", "session", UUID, "-o", "json"))["spec"]
    assert found == {"owner": "ann", "classRef": {"name": "default"}, "mode": "Auto"}
    patches = [({"owner": "bob"}, "keeps its owner"), ({"classRef": {"name": "other"}}, "keeps its class")]
    for spec, words in patches:
        patch = ["-p", json.dumps({"spec": spec})]
        assert words in kubectl("-n", namespace, "patch", "session", UUID, "--type=merge", *patch, check=False)
    kubectl("-n", namespace, "patch", "session", UUID, "--type=merge", "-p", '{"spec": {"mode": "Suspended"}}')


def test_kubectl_shows_phase_class_owner_and_age(namespace: str):
    kubectl("-n", namespace, "create", "-f", "-", stdin=manifest("Session", UUID, owner="ann"))
    heading, row = kubectl("-n", namespace, "get", "sess").splitlines()
    assert heading.split() == ["NAME", "PHASE", "READY", "REASON", "CLASS", "OWNER", "LAST", "WAKE", "AGE"]
    assert row.split()[:3] == [UUID, "default", "ann"]


def test_every_field_has_a_description():
    def without(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, each in schema.get("properties", {}).items():
            here = f"{path}.{name}"
            if "description" not in each:
                found.append(here)
            found += without(each, here) + without(each.get("items", {}), here + "[]")
        return found

    for definition in crds.load():
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            assert without(schema["properties"].get(part, {}), part) == []


def test_kubectl_explains(definitions: None):
    assert "AlwaysOn neither sleeps nor" in kubectl("explain", "session.spec.mode")
    assert "The readiness probe." in kubectl("explain", "sessionclass.spec.probe")
