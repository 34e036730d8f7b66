"""A namespace per test on a real cluster, an operator process in it, and the state of the cluster when a test fails.

The cluster is the one of KUBECONFIG; ``make test-cluster`` starts one where that is not set.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import Cluster
from tests.cluster.accounts import service_of
from tests.cluster.release import sessions_of
from tests.cluster.world import FrontDoorProcess, OperatorProcess, World, kubectl
from tests.servers import crds
from tests.servers.redis import RedisServer
from tests.waiting import until

REPORT = pytest.StashKey[World]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def definitions() -> None:
    """Define the two kinds in the cluster."""
    for definition in crds.load():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
    for definition in crds.load():
        kubectl("wait", "--for=condition=Established", f"crd/{definition['metadata']['name']}", "--timeout=30s")


@pytest.fixture
def namespace(definitions: None) -> Iterator[str]:
    """A namespace for one test, at the level restricted."""
    name = f"test-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    yield name
    # The others exist if a release was installed: that of its sessions, or that of the accounts for sessions here.
    kubectl("delete", "namespace", name, sessions_of(name), service_of(name), "--wait=false", "--ignore-not-found")


@pytest.fixture
def keda_namespace(namespace: str, own_redis: RedisServer) -> str:
    """The namespace, in which KEDA may read the test's Redis."""
    if "scaledobjects" not in kubectl("api-resources", "--api-group=keda.sh", "-o", "name", check=False):
        pytest.skip("the cluster has no KEDA")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keda"}}
    target = {"parameter": "password", "name": "keda", "key": "password"}
    authentication = {
        "apiVersion": names.KEDA_API_VERSION,
        "kind": "TriggerAuthentication",
        "metadata": {"name": names.KEDA_AUTHENTICATION},
        "spec": {"secretTargetRef": [target]},
    }
    for body in ({**secret, "stringData": {"password": own_redis.password}}, authentication):
        kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(body))
    return namespace


@pytest.fixture
async def world(
    namespace: str, own_redis: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A running operator and the clients of a front door."""

    cluster = Cluster(namespace)
    await cluster.start()
    folder = tmp_path / "operator"
    folder.mkdir()
    operator = OperatorProcess(namespace, own_redis.url, folder / "log")
    operator.start()
    world = World(namespace, cluster, Link.from_url(own_redis.url), operator)
    await world.activity.start()
    request.node.stash[REPORT] = world
    yield world
    if operator.running:
        assert await asyncio.to_thread(operator.stop) == 0
    await world.activity.close()
    await cluster.close()


@pytest.fixture
async def door(world: World, own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[FrontDoorProcess]:
    """A front door beside the operator."""
    folder = tmp_path / "door"
    folder.mkdir()
    door = FrontDoorProcess(world.namespace, own_redis.url, folder)
    world.doors.append(door)
    await door.start()

    async def ready() -> bool:
        return (await door.ask("GET", "/readyz"))[0] == 200

    await until(ready, 30)
    yield door
    if door.running:
        assert await asyncio.to_thread(door.stop) == 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    world = item.stash.get(REPORT, None)
    if world is not None and report.failed and call.when == "call":
        report.sections.append(("cluster", world.report()))
    return report
