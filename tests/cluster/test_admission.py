"""The admission policies of the chart, enforced by a real API server: each account tries what is not its work."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec, Storage, parse_class
from session_manager.wiring.hosts.kubernetes import session_manifest
from session_operator import manifests
from session_operator.class_rules import ClassRules
from tests.cluster.accounts import ALLOWED, DOOR, OPERATOR, accounts, attempt, user_of
from tests.cluster.world import kubectl
from tests.waiting import until

Json = dict[str, Any]

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
UID = "11111111-2222-4333-8444-555555555555"
SPEC: Json = {
    "image": "registry/agent:2",
    "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "agents-a", "key": "k"}}}],
    "envFrom": [{"secretRef": {"name": "model-keys"}}],
    "imagePullSecrets": [{"name": "agents-registry"}],
    "runtimeClassName": "gvisor",
    "template": {
        "labels": {"team": "a"},
        "annotations": {"example.com/note": "x"},
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "agents", "operator": "Exists"}],
        "priorityClassName": "agents",
    },
}
RICH = parse_class({"metadata": {"name": "rich", "uid": UID}, "spec": SPEC}, 120, 86_400)
SESSION = SessionSpec(UUID, UID, RICH)
STORED = SessionSpec(UUID, UID, ClassSpec(SessionClass("rich", image="x"), storage=Storage("1Gi", "fast")))
SAFE = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
OTHER = UUID.replace("8c5f", "9c5f")


def changed(manifest: Json, path: str, value: Any) -> Json:
    """Return the manifest with another value at ``path``; None removes what is there. POD and BOX: of a Deployment."""
    found: Json = json.loads(json.dumps(manifest))
    path = path.replace("BOX", "POD/containers/0").replace("POD", "spec/template/spec")
    *parents, last = (each.replace("~", "/") for each in path.split("/"))
    node: Any = found
    for each in parents:
        node = node[int(each)] if isinstance(node, list) else node.setdefault(each, {})
    if isinstance(node, list):
        node[int(last) :] = [value, *node[int(last) + 1 :]]
    elif value is None:
        del node[last]
    else:
        node[last] = value
    return found


def wrong(namespace: str, account: str, manifest: Json, table: list[tuple[str, Any, str]]) -> Json:
    """Try each change; return what the API server said to those that it did not refuse with the words of the table."""
    assert "created" in attempt(namespace, account, manifest)
    said = {
        f"{path} {value}": (words, attempt(namespace, account, changed(manifest, path, value)))
        for path, value, words in table
    }
    return {change: answer for change, (words, answer) in said.items() if words not in answer}


LOCKED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
SIDE = {"name": "side", "image": "x", "securityContext": {"privileged": True}}
HOST_PATH = {"name": "tmp", "hostPath": {"path": "/"}}
SECRET_VOLUME = {"name": "tmp", "secret": {"secretName": "model-keys"}}
TOKEN_VOLUME = {"name": "tmp", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
MOUNT = {"name": "tmp", "mountPath": "/tmp"}
KEY = {"name": "K", "valueFrom": {"secretKeyRef": {"name": "session-manager-key", "key": "key"}}}
CONFIG = {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}
WEAK_PODS: list[tuple[str, Any, str]] = [
    ("spec/replicas", 2, "one pod at most"),
    ("spec/selector/matchLabels", {"sessionmanager.dev/class": "rich"}, "selects the pods of its own session"),
    ("POD/containers/1", SIDE, "one container"),
    ("POD/initContainers", [SIDE], "one container"),
    ("BOX/name", "other", "one container"),
    ("BOX/lifecycle", {"preStop": {"exec": {"command": ["x"]}}}, "without hooks"),
    ("BOX/livenessProbe", {"httpGet": {"host": "169.254.169.254", "port": 80}}, "without hooks"),
    ("BOX/readinessProbe/httpGet/host", "169.254.169.254", "probes a session's pod at its own address"),
    ("BOX/readinessProbe", {"exec": {"command": ["x"]}}, "probes a session's pod at its own address"),
    ("POD/hostNetwork", True, "namespaces, ports"),
    ("POD/hostPID", True, "namespaces, ports"),
    ("POD/hostIPC", True, "namespaces, ports"),
    ("POD/hostAliases", [{"ip": "10.0.0.1", "hostnames": ["a"]}], "namespaces, ports"),
    ("POD/nodeName", "node-0", "namespaces, ports"),
    ("POD/dnsPolicy", "Default", "namespaces, ports"),
    ("POD/dnsConfig", {"nameservers": ["10.0.0.1"]}, "namespaces, ports"),
    ("POD/schedulerName", "mine", "namespaces, ports"),
    ("BOX/ports/0/hostPort", 80, "namespaces, ports"),
    ("POD/automountServiceAccountToken", None, "service account's token"),
    ("POD/serviceAccountName", "session-operator", "service account's token"),
    ("POD/securityContext/runAsUser", 0, "a user other than root"),
    ("POD/securityContext/runAsNonRoot", False, "a user other than root"),
    ("POD/securityContext/seccompProfile/type", "Unconfined", "a user other than root"),
    ("POD/securityContext/sysctls", [{"name": "a", "value": "1"}], "a user other than root"),
    ("POD/securityContext/supplementalGroups", [0], "a user other than root"),
    ("POD/securityContext/appArmorProfile", {"type": "Unconfined"}, "a user other than root"),
    ("POD/securityContext", None, "a user other than root"),
    ("BOX/securityContext", None, "no capabilities"),
    ("BOX/securityContext", {**LOCKED, "privileged": True, "allowPrivilegeEscalation": True}, "no capabilities"),
    ("BOX/securityContext", {**LOCKED, "seLinuxOptions": {"type": "spc_t"}}, "no capabilities"),
    ("BOX/securityContext/allowPrivilegeEscalation", None, "no capabilities"),
    ("BOX/securityContext/allowPrivilegeEscalation", True, "no capabilities"),
    ("BOX/securityContext/readOnlyRootFilesystem", False, "no capabilities"),
    ("BOX/securityContext/capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}, "no capabilities"),
    ("BOX/securityContext/capabilities", {"drop": ["KILL"]}, "no capabilities"),
    ("BOX/securityContext/runAsUser", 0, "no capabilities"),
    ("BOX/securityContext/seccompProfile", {"type": "Unconfined"}, "no capabilities"),
    ("POD/volumes/0", HOST_PATH, "its own, with a size"),
    ("POD/volumes/0", SECRET_VOLUME, "its own, with a size"),
    ("POD/volumes/0", TOKEN_VOLUME, "its own, with a size"),
    ("POD/volumes/0", {"name": "tmp", "emptyDir": {}}, "its own, with a size"),
    ("POD/volumes/0", {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}, "its own, with a size"),
    ("POD/volumes/0", {"name": "tmp", "persistentVolumeClaim": {"claimName": "other"}}, "its own, with a size"),
    ("BOX/volumeMounts/0", {**MOUNT, "subPath": "x"}, "whole, at /tmp and HOME"),
    ("BOX/volumeMounts/0", {**MOUNT, "mountPath": "/usr"}, "whole, at /tmp and HOME"),
    ("BOX/resources/limits/memory", None, "limits of cpu, memory and ephemeral-storage"),
    ("BOX/resources", None, "limits of cpu, memory and ephemeral-storage"),
    ("BOX/env/0", KEY, "only Secrets"),
    ("BOX/env/0", CONFIG, "only Secrets"),
    ("BOX/envFrom", [{"secretRef": {"name": "redis-credentials"}}], "only Secrets"),
    ("BOX/envFrom", [{"configMapRef": {"name": "c"}}], "only Secrets"),
    ("POD/imagePullSecrets", [{"name": "other"}], "only Secrets"),
    ("POD/runtimeClassName", "other", "only RuntimeClasses"),
    ("POD/priorityClassName", "system-node-critical", "only PriorityClasses"),
    ("POD/priority", 2_000_000_000, "only PriorityClasses"),
    ("POD/tolerations", [{"operator": "Exists"}], "nodes of the control plane"),
    ("spec/template/metadata/labels/app", "session-manager", "the labels of sessions"),
    ("spec/template/metadata/labels/app.kubernetes.io~managed-by", "Helm", "the labels of sessions"),
    ("spec/template/metadata/annotations/k8s.v1.cni.cncf.io~networks", "n", "only annotations"),
    ("metadata/ownerReferences/0/name", OTHER, "belongs to the Session"),
    ("metadata/ownerReferences", None, "belongs to the Session"),
    ("metadata/labels/app.kubernetes.io~managed-by", "Helm", "has the labels of sessions"),
    ("metadata/name", f"session-{OTHER}", "selects the pods of its own session"),
    ("metadata/name", "redis", "selects the pods of its own session"),
]
WEAK_SERVICES: list[tuple[str, Any, str]] = [
    ("spec/selector", {"app": "session-manager"}, "headless"),
    ("spec/clusterIP", None, "headless"),
    ("spec/externalIPs", ["10.0.0.1"], "headless"),
    ("spec", {"type": "ExternalName", "externalName": "example.com"}, "headless"),
    ("spec", {"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"a": "b"}}, "headless"),
    ("metadata/ownerReferences", None, "belongs to the Session"),
]
WEAK_CLAIMS: list[tuple[str, Any, str]] = [
    ("spec/volumeName", "somebody-elses", "neither chosen nor copied"),
    ("spec/storageClassName", "", "neither chosen nor copied"),
    ("spec/selector", {"matchLabels": {"a": "b"}}, "neither chosen nor copied"),
    ("spec/dataSource", {"kind": "PersistentVolumeClaim", "name": f"session-{OTHER}"}, "neither chosen nor copied"),
    ("metadata/name", "data", "only the volumes of sessions"),
]
NEW = Session(UUID, "ann", "app", UUID, "default", None, Micros(0), Micros(0), Micros(0))
SESSION_RESOURCE = session_manifest(NEW, "mine")
WEAK_SESSIONS: list[tuple[str, Any, str]] = [
    ("spec/mode", "AlwaysOn", "creates Sessions with the mode Auto"),
    ("metadata/annotations", {"a": "b"}, "creates Sessions with the mode Auto"),
    ("metadata/finalizers", ["example.com/x"], "creates Sessions with the mode Auto"),
    ("metadata/labels/team", "a", "creates Sessions with the mode Auto"),
]
SCALED = manifests.scaled_object(SESSION, manifests.RedisTrigger("redis:6379"))
WEAK_SCALED: list[tuple[str, Any, str]] = [
    ("spec/scaleTargetRef/name", f"session-{OTHER}", "scales its own session's Deployment"),
    ("spec/maxReplicaCount", 100, "scales its own session's Deployment"),
    ("spec/triggers/0/metadata/listName", "session:other:awake", "scales its own session's Deployment"),
    ("spec/triggers/0/authenticationRef", {"name": "a", "kind": "ClusterTriggerAuthentication"}, "scales its own"),
]


@pytest.fixture
async def policies(namespace: str) -> AsyncIterator[list[Json]]:
    async with accounts(namespace) as objects:
        yield [each for each in objects if each["kind"] == "ValidatingAdmissionPolicy"]


def test_the_operator_writes_only_its_own_shape(namespace: str, policies: list[Json]):
    deployment = manifests.new_deployment(SESSION)
    assert wrong(namespace, OPERATOR, deployment, WEAK_PODS) == {}
    assert wrong(namespace, OPERATOR, manifests.service(SESSION), WEAK_SERVICES) == {}
    claim = manifests.volume_claim(STORED, Storage("1Gi", "fast"))
    assert wrong(namespace, OPERATOR, claim, WEAK_CLAIMS) == {}
    assert "created" in attempt(namespace, OPERATOR, manifests.new_deployment(STORED))
    pool = manifests.warm_deployment(replace(RICH, warm=3))
    assert (
        wrong(
            namespace,
            OPERATOR,
            pool,
            [("spec/selector/matchLabels", {"sessionmanager.dev/class": "rich"}, "its own session or pool")],
        )
        == {}
    )
    if "scaledobjects" in kubectl("api-resources", "--api-group=keda.sh", "-o", "name", check=False):
        assert wrong(namespace, OPERATOR, SCALED, WEAK_SCALED) == {}


def test_the_front_door_writes_only_its_own_shape(namespace: str, policies: list[Json]):
    assert wrong(namespace, DOOR, SESSION_RESOURCE, WEAK_SESSIONS) == {}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(SESSION_RESOURCE))
    mine = {"metadata": {"labels": {names.INSTALL_LABEL: "mine"}}}
    assert "no change" in patched(namespace, DOOR, "session", UUID, mine)
    for patch in ({"spec": {"mode": "AlwaysOn"}}, {"metadata": {"finalizers": ["example.com/x"]}}):
        assert "changes nothing else" in patched(namespace, DOOR, "session", UUID, patch)
    assert "patched" in patched(namespace, "", "session", UUID, {"spec": {"mode": "Suspended"}})


def patched(namespace: str, account: str, kind: str, name: str, patch: Json, *more: str) -> str:
    who = ["--as", user_of(namespace, account)] if account else []
    words = ["patch", kind, name, "--type=merge", "-p", json.dumps(patch), "--dry-run=server", *more, *who]
    return kubectl("-n", namespace, *words, check=False)


def deleted(namespace: str, account: str, kind: str, name: str) -> str:
    words = ["delete", kind, name, "--dry-run=server", "--as", user_of(namespace, account)]
    return kubectl("-n", namespace, *words, check=False)


async def test_neither_account_touches_what_is_not_of_sessions(namespace: str, policies: list[Json]):
    """As in an installation with one namespace, where their Roles would allow it."""
    pod = {
        "containers": [{"name": "a", "image": "localhost/session-agent:test", **RESTRICTED}],
        "securityContext": SAFE,
    }
    redis: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "redis"},
        "spec": {
            "selector": {"matchLabels": {"app": "redis"}},
            "template": {"metadata": {"labels": {"app": "redis"}}, "spec": pod},
        },
    }
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "redis"},
        "spec": {"selector": {"app": "redis"}, "ports": [{"port": 6379}]},
    }
    for body in (redis, service):
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(body))

    async def pod_name() -> str:
        return kubectl("-n", namespace, "get", "pods", "-l", "app=redis", "-o", "jsonpath={.items[*].metadata.name}")

    name = await until(pod_name, 30)
    scaled = {"spec": {"replicas": 0}}
    assert "Deployments of sessions only" in patched(
        namespace, DOOR, "deployment", "redis", scaled, "--subresource=scale"
    )
    assert "pods of sessions only" in deleted(namespace, DOOR, "pod", name)
    ours = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "session-manager"}}}
    for kind, which in (("deployment", "redis"), ("service", "redis"), ("pod", name)):
        answer = patched(namespace, OPERATOR, kind, which, ours)
        assert re.search("denied request: (the|a (Service|Deployment) of the) operator", answer), answer
    for kind, which in (("deployment", "redis"), ("pod", name)):
        assert "only what has the labels of sessions" in deleted(namespace, OPERATOR, kind, which)


def test_a_pod_that_the_policy_does_not_know_can_still_end(namespace: str, policies: list[Json]):
    """A Deployment of an older release, or with a Secret that is no longer listed, is put to sleep but not woken."""
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(SESSION_RESOURCE))
    uid = kubectl("-n", namespace, "get", "session", UUID, "-o", "jsonpath={.metadata.uid}")
    old = changed(manifests.new_deployment(replace(SESSION, uid=uid)), "POD/volumes/0", {"name": "tmp", "emptyDir": {}})
    name, up, down = old["metadata"]["name"], {"spec": {"replicas": 1}}, {"spec": {"replicas": 0}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(changed(old, "spec/replicas", 1)))
    assert "patched" in patched(namespace, OPERATOR, "deployment", name, down)
    kubectl("-n", namespace, "scale", "deployment", name, "--replicas=0")
    assert "its own, with a size" in patched(namespace, OPERATOR, "deployment", name, up)


REFUSED: list[Json] = [
    {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]},
    {"envFrom": [{"secretRef": {"name": "session-manager-key"}}]},
    {"envFrom": [{"secretRef": {"name": "b"}}], "imagePullSecrets": [{"name": "a"}]},
    {"imagePullSecrets": [{"name": "model-keys-2"}]},
    {"template": {"labels": {"app": "session-manager"}}},
    {"template": {"labels": {"team": "a", "sidecar.istio.io/inject": "true"}}},
    {"template": {"annotations": {"sidecar.istio.io/userVolume": "[]"}}},
    {"template": {"annotations": {"k8s.v1.cni.cncf.io/networks": "n"}}},
    {"runtimeClassName": "other"},
    {"template": {"priorityClassName": "high"}},
]


def test_a_class_is_refused_in_the_same_words_by_the_api_server_and_the_operator(namespace: str, policies: list[Json]):
    rules = ClassRules(
        tuple(ALLOWED["allowedSecrets"]),
        ("session-manager-key",),
        tuple(ALLOWED["allowedLabels"]),
        tuple(ALLOWED["allowedAnnotations"]),
        tuple(ALLOWED["allowedRuntimeClasses"]),
        tuple(ALLOWED["allowedPriorityClasses"]),
    )
    body: Json = {"apiVersion": names.API_VERSION, "kind": names.CLASS_KIND, "metadata": {"name": "c"}, "spec": SPEC}
    assert "created" in attempt(namespace, "", body)
    old = {**body, "metadata": {"name": "old", "annotations": {"a": "b"}}, "spec": {"image": "x"}}
    kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(old))
    changes: list[tuple[Json, str]] = [
        ({"metadata": {"labels": {"a": "b"}}}, "patched"),
        ({"spec": {"image": "y"}}, "patched"),
        ({"spec": {"runtimeClassName": "other"}}, "may not use the RuntimeClass other"),
    ]
    for change, words in changes:
        assert words in patched(namespace, "", "sessionclass", "old", change)
    for spec in REFUSED:
        refusal = rules.refusal(parse_class({**body, "spec": {"image": "x", **spec}}, 120, 86_400))
        assert refusal
        assert refusal in attempt(namespace, "", {**body, "spec": {"image": "x", **spec}})


async def test_every_expression_has_the_types_of_its_resources(namespace: str, policies: list[Json]):
    """The API server checks the types of each expression, and writes what it finds into the status."""

    async def checked() -> list[Json]:
        found = [json.loads(kubectl("get", each["kind"], each["metadata"]["name"], "-o", "json")) for each in policies]
        return found if all("typeChecking" in each.get("status", {}) for each in found) else []

    for each in await until(checked, 30):
        assert each["status"]["typeChecking"] == {}, each["metadata"]["name"]
