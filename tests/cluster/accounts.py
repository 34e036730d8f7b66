"""The service accounts of a release, with Roles and admission policies, for sessions in the namespace of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import yaml

from tests.chart.helm import CHART, run
from tests.cluster.world import kubectl
from tests.waiting import until

DOOR, OPERATOR = "session-manager", "session-operator"
ACCOUNTS = (DOOR, OPERATOR)
KINDS = ("ServiceAccount", "Role", "RoleBinding")
POLICIES = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
ALLOWED = {
    "allowedSecrets": ["model-keys", "agents-*"],
    "allowedLabels": ["team"],
    "allowedAnnotations": ["example.com/*"],
    "allowedRuntimeClasses": ["gvisor"],
    "allowedPriorityClasses": ["agents"],
}

Json = dict[str, Any]


def service_of(namespace: str) -> str:
    """Return the namespace of the accounts for the sessions in ``namespace``."""
    return f"{namespace}-service"


def user_of(namespace: str, account: str) -> str:
    return f"system:serviceaccount:{service_of(namespace)}:{account}"


def render(namespace: str) -> list[Json]:
    """Return what the chart has of accounts, rights and policies, for sessions in ``namespace``."""
    values = {"namespace": namespace, "createNamespace": False, **ALLOWED}
    where = ["--namespace", service_of(namespace), "--kube-version", "1.34.0"]
    done = run("template", "sm", str(CHART), *where, "--set-json", f"sessions={json.dumps(values)}")
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] in KINDS + POLICIES]


@asynccontextmanager
async def accounts(namespace: str) -> AsyncIterator[list[Json]]:
    """Create them, and wait until the API server enforces the policies."""
    kubectl("create", "namespace", service_of(namespace))
    objects = render(namespace)
    policies = [each for each in objects if each["kind"] in POLICIES]
    try:
        kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        await until(lambda: asyncio.to_thread(_all_enforced, namespace), 30)
        yield objects
    finally:
        for each in policies:
            kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found", "--wait=false", check=False)


def _all_enforced(namespace: str) -> bool:
    """Return True if the policy that was applied last is enforced."""
    probe: Json = {
        "apiVersion": "sessionmanager.dev/v1alpha1",
        "kind": "Session",
        "metadata": {"name": "8c5f1f4e-3b1a-4a5e-9d38-000000000000", "annotations": {"not": "allowed"}},
        "spec": {"owner": "ann"},
    }
    a_class: Json = {**probe, "kind": "SessionClass", "metadata": {"name": "probe"}}
    a_class["spec"] = {"image": "x", "runtimeClassName": "other"}
    service: Json = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe"},
        "spec": {"ports": [{"port": 1}]},
    }
    tries = [(DOOR, probe), (OPERATOR, service), ("", a_class)]
    said = [attempt(namespace, account, body) for account, body in tries]
    return all("ValidatingAdmissionPolicy" in each for each in said)


def attempt(namespace: str, account: str, body: Json, verb: str = "create") -> str:
    """Return what the API server says to a dry run by the account; as administrator if it is empty."""
    who = ["--as", user_of(namespace, account)] if account else []
    return kubectl("-n", namespace, verb, "--dry-run=server", "-f", "-", *who, stdin=json.dumps(body), check=False)
