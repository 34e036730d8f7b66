"""The chart, installed on the cluster under test as the docs describe it."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from session_manager.client import Client, Unreachable
from tests.cluster.world import IMAGE, kubectl

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "session-manager"
PRODUCT = os.environ.get("CLUSTER_TEST_PRODUCT_IMAGE", "localhost/session-manager:test")
SERVERS = os.environ.get("CLUSTER_TEST_SERVERS_IMAGE", "localhost/servers:test")

needs_release = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm"),
    pytest.mark.skipif(
        "LOCALKUBE" not in os.environ and "CLUSTER_TEST_PRODUCT_IMAGE" not in os.environ,
        reason="CLUSTER_TEST_PRODUCT_IMAGE and CLUSTER_TEST_SERVERS_IMAGE name no images",
    ),
]


def sessions_of(namespace: str) -> str:
    """Return the namespace of the sessions of the release in ``namespace``."""
    return f"{namespace}-sessions"


def values_for(namespace: str, **more: Any) -> dict[str, Any]:
    """Return the values of a release with the images under test and volumes of the class ``volume-NAMESPACE``."""
    repository, _, tag = PRODUCT.rpartition(":")
    agent, _, agent_tag = IMAGE.rpartition(":")
    volume = {"storageClassName": f"volume-{namespace}"}
    return {
        "image": {"repository": repository, "tag": tag},
        "defaultClass": {"image": {"repository": agent, "tag": agent_tag}},
        "redis": {"image": SERVERS, "persistence": volume},
        "postgresql": {"image": SERVERS, "persistence": volume},
        "crds": {"install": False},  # other tests have created them already
        "scaler": "native",
        "sessions": {"namespace": sessions_of(namespace)},
        **more,
    }


def helm(*words: str) -> str:
    done = subprocess.run(["helm", *words], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def address(namespace: str) -> str:
    ip = kubectl("-n", namespace, "get", "service", "session-manager", "-o", "jsonpath={.spec.clusterIP}")
    return f"http://{ip}"


def key(namespace: str) -> str:
    found = kubectl("-n", namespace, "get", "secret", "session-manager-key", "-o", "jsonpath={.data.key}")
    return base64.b64decode(found).decode()


def report(namespace: str) -> str:
    parts = []
    for each in (namespace, sessions_of(namespace)):
        words = ["-n", each]
        parts += [
            kubectl(*words, "get", "all,sessions,sessionclasses,pvc", check=False),
            kubectl(*words, "get", "events", "--sort-by=.lastTimestamp", check=False)[-6000:],
        ]
        pods = kubectl(*words, "get", "pods", "-o", "name", check=False).split()
        logs = ["logs", "--tail=25", "--all-containers"]
        parts += [f"{pod}\n{kubectl(*words, *logs, pod, check=False)}" for pod in pods]
    return "\n\n".join(parts)


def rolled_out(namespace: str, seconds: int = 120) -> None:
    """Return every workload of the release, servers first."""
    servers = kubectl("-n", namespace, "get", "statefulsets", "-o", "name").split()
    for workload in (*servers, "deployment/session-manager", "deployment/session-operator"):
        kubectl_patiently(namespace, workload, seconds)


def kubectl_patiently(namespace: str, workload: str, seconds: int) -> None:
    command = ["kubectl", "-n", namespace, "rollout", "status", workload, f"--timeout={seconds}s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 10, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{report(namespace)}"


def first(client: Client) -> str:
    """Create the first session, as soon as the nodes can reach the Service."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return str(client.create("ada")["uuid"])
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
