"""The NetworkPolicies of the chart, enforced by a network plugin: what pods reach, tried from inside them.

Needs ``localkube build --policies``.  The plugin enforces the policies of the whole cluster while the test runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import yaml

from session_manager.runtime.kubernetes import names
from tests.chart.helm import CHART, run
from tests.cluster.accounts import service_of
from tests.cluster.world import IMAGE, kubectl
from tests.waiting import until

Json = dict[str, Any]
Reached = dict[str, bool]

pytestmark = pytest.mark.skipif(
    "LOCALKUBE" not in os.environ or shutil.which("kube-router") is None,
    reason="needs localkube with kube-router (localkube build --policies)",
)

NODE = "10.244.1.1"
PUBLIC, PORT, OTHER_PORT = "93.184.215.14", 443, 2222
SPECIAL = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "172.16.9.9",
    "203.0.113.9",
]
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(target):
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 4).close()
    except OSError:
        return False
    return True
targets = sys.argv[1:]
with ThreadPoolExecutor(32) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reached, targets)))))
"""


def pod(namespace: str, name: str, port: int, labels: dict[str, str]) -> Json:
    """Return a pod that listens on one port."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "listener",
        "image": IMAGE,
        "command": ["python3", "-m", "http.server", str(port), "--directory", "/tmp"],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "securityContext": security,
    }
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def of_release(component: str) -> dict[str, str]:
    return {"app": component, "app.kubernetes.io/instance": "sm"}


@contextmanager
def listening(address: str, *ports: int) -> Iterator[None]:
    """Give the node this address, as if it were that of a server outside, and accept connections to it."""
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)
        for port in ports:
            server = stack.enter_context(socket.create_server((address, port)))
            threading.Thread(target=_accept, args=(server,), daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)
        yield


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


@contextmanager
def enforced() -> Iterator[None]:
    localkube = os.environ["LOCALKUBE"]
    environment = {**os.environ, "LOCALKUBE_NETNS": ""}  # the test runs inside it already
    subprocess.run([localkube, "policies", "on"], check=True, env=environment)
    try:
        yield
    finally:
        subprocess.run([localkube, "policies", "off"], check=True, env=environment)


@pytest.fixture
def addresses(namespace: str) -> dict[str, str]:
    """Create pods of sessions, of the service and of strangers, with the chart's policies; return their addresses."""
    service = service_of(namespace)
    kubectl("create", "namespace", service)
    kubectl("-n", service, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    values = {"sessions": {"namespace": namespace, "createNamespace": False}, "networkPolicy": {"nodeLocalDNS": NODE}}
    sets = ",".join(f"{name}={json.dumps(value)}" for name, value in values.items())
    options = ["--namespace", service, "--kube-version", "1.34.0"]
    done = run("template", "sm", str(CHART), *options, "--set-json", sets)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each and each["kind"] == "NetworkPolicy"]
    objects += [
        pod(namespace, "one", 1111, names.session_labels("8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "default", "ann")),
        pod(namespace, "two", 1111, names.warm_labels("default")),
        pod(service, "door", 8080, of_release("session-manager")),
        pod(service, "redis", 6379, of_release("session-manager-redis")),
        pod(service, "stranger", 1111, {"app": "stranger"}),
    ]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    for where in (namespace, service):
        kubectl("-n", where, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=50s")
    found = {}
    for where in (namespace, service):
        for each in json.loads(kubectl("-n", where, "get", "pods", "-o", "json"))["items"]:
            port = each["spec"]["containers"][0]["readinessProbe"]["tcpSocket"]["port"]
            found[each["metadata"]["name"]] = f"{each['status']['podIP']}:{port}"
    return found


async def test_what_a_network_plugin_lets_through(namespace: str, addresses: dict[str, str]):
    service = service_of(namespace)
    where = {"one": namespace, "door": service, "redis": service, "stranger": service}
    outside = {
        f"{PUBLIC}:{PORT}": True,
        f"{PUBLIC}:{OTHER_PORT}": False,
        **{f"{address}:{PORT}": False for address in SPECIAL},
        f"{NODE}:53": True,
        f"{NODE}:6443": False,
    }
    inside = {
        "one": {"door": True, "redis": False, "two": False, "stranger": False},
        "door": {"one": True, "two": True, "redis": True},
        "stranger": {"one": False, "two": False, "redis": False, "door": True},
        "redis": {"door": False, "stranger": False, "one": False},
    }
    expected: dict[str, Reached] = {
        source: {addresses[name]: reached for name, reached in targets.items()} for source, targets in inside.items()
    }
    expected["one"] |= outside

    async def found() -> dict[str, Reached]:
        def ask(source: str) -> Reached:
            words = ["exec", source, "--", "python3", "-c", CONNECT, *expected[source]]
            answer: Reached = json.loads(kubectl("-n", where[source], *words))
            return answer

        answers = await asyncio.gather(*(asyncio.to_thread(ask, source) for source in expected))
        return dict(zip(expected, answers, strict=True))

    with ExitStack() as stack:
        stack.enter_context(listening(PUBLIC, PORT, OTHER_PORT))
        for address in SPECIAL:
            stack.enter_context(listening(address, PORT))
        before = await found()
        assert all(all(targets.values()) for targets in before.values()), before  # nothing is enforced yet
        with enforced():

            async def as_expected() -> bool:
                return await found() == expected

            try:
                await until(as_expected, 60)
            except AssertionError:
                assert await found() == expected
