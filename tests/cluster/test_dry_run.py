"""Every object of a release with two namespaces, as a real API server validates and admits it.

test_chart_objects.py has more sets of values, in one namespace.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec, Storage
from session_operator import manifests
from tests.chart.helm import CHART, needs_helm, run
from tests.cluster.release import sessions_of
from tests.cluster.world import kubectl

pytestmark = needs_helm

Json = dict[str, Any]

SETS: dict[str, Json] = {
    "default": {},
    "native": {"scaler": "native"},
    "lists": {
        "sessions": {
            "allowedSecrets": ["model.keys", "agents-*"],
            "allowedLabels": ["team", "example.com/*"],
            "allowedAnnotations": ["*"],
            "allowedRuntimeClasses": ["gvisor"],
            "allowedPriorityClasses": ["agents"],
        },
        "networkPolicy": {
            "nodeLocalDNS": "169.254.20.10",
            "publicPorts": [443, 8443],
            "allowedCIDRs": [{"cidr": "10.20.0.0/24", "ports": [5432]}, {"cidr": "fd00:1::/64"}],
            "deniedCIDRs": ["34.1.2.0/24", "2a00:1::/32", "fc00::/7", "10.0.0.0/8"],
        },
    },
    "no public address": {"networkPolicy": {"publicPorts": []}},
    "no walls": {"networkPolicy": {"enabled": False}, "admissionPolicy": {"enabled": False}},
}


@pytest.fixture
def restricted(namespace: str) -> str:
    """The namespace of the release and that of its sessions, both of which enforce the level restricted."""
    kubectl("create", "namespace", sessions_of(namespace))
    for each in (namespace, sessions_of(namespace)):
        levels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        kubectl("label", "namespace", each, "--overwrite", *levels)
    return namespace


def rendered(namespace: str, values: Json, *files: str) -> list[Json]:
    """Return the objects of a release whose kinds the cluster serves."""
    served = kubectl("api-versions").split()
    words = [word for each in served for word in ("--api-versions", each)]
    words += [word for file in files for word in ("--values", str(CHART / file))]
    given = {**values, "sessions": {"namespace": sessions_of(namespace), **values.get("sessions", {})}}
    sets = ",".join(f"{name}={json.dumps(value)}" for name, value in given.items())
    where = ["--namespace", namespace, "--kube-version", "1.34.0"]
    done = run("template", "sm", str(CHART), *where, *words, "--set-json", sets)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    return [each for each in objects if each["apiVersion"] in served]


def applied(objects: list[Json]) -> tuple[int, str]:
    """Return how many the API server would take, and what it says of the others, with its warnings."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    said = kubectl(
        "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-", stdin=text, check=False
    )
    lines = said.splitlines()
    taken = [line for line in lines if line.endswith("serverside-applied (server dry run)")]
    return len(taken), "\n".join(line for line in lines if line not in taken)


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_the_api_server_takes_every_object(restricted: str, values: Json):
    objects = rendered(restricted, values)
    assert len(objects) > 20 or "admissionPolicy" in values
    assert applied(objects) == (len(objects), "")


def test_it_takes_those_of_the_example_for_gke(restricted: str):
    objects = rendered(restricted, {"database": {"existingSecret": "db"}}, "values-gke.yaml")
    assert applied(objects) == (len(objects), "")


def test_one_namespace_for_both(restricted: str):
    objects = rendered(restricted, {"sessions": {"namespace": restricted}})
    assert applied(objects) == (len(objects), "")


@pytest.mark.parametrize("storage", [None, Storage("1Gi")], ids=["without a volume", "with a volume"])
def test_a_session_s_pod_meets_the_restricted_level(restricted: str, storage: Storage | None):
    spec = ClassSpec(SessionClass("rich", image="x"), storage=storage)
    template = manifests.session_template(SessionSpec("8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "uid", spec))
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "name": "p", "namespace": sessions_of(restricted)}
    assert applied([pod]) == (1, "")
