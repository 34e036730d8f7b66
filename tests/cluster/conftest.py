"""A namespace per test on a real cluster, an operator process in it, and what the cluster says when a test fails.

The cluster is the one of KUBECONFIG; ``make test-cluster`` starts one where that is not set.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLASSES, PODS, SESSIONS, ApiNotFound, Cluster, Resource
from session_operator import crds
from tests.servers.redis import RedisServer

Json = dict[str, Any]

IMAGE = os.environ.get("CLUSTER_TEST_IMAGE", "localhost/session-agent:test")
REPORT = pytest.StashKey["World"]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(180))


def kubectl(*words: str, stdin: str | None = None, check: bool = True) -> str:
    """What it printed; an AssertionError with its complaint when it failed."""
    done = subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout + ("" if check else done.stderr)


class OperatorProcess:
    """``python -m session_operator`` in one namespace."""

    def __init__(self, namespace: str, redis_url: str, log: Path) -> None:
        self._log = log
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG") if name in os.environ},
            "REDIS_URL": redis_url,
            "SESSIONS_NAMESPACE": namespace,
            "OPERATOR_HOST": "127.0.0.1",
            "OPERATOR_PORT": "0",
            "LOG_FORMAT": "json",
            "HEARTBEAT": "5",
            "RETRY_FIRST": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "session_operator"]
            folder = self._log.parent
            self._process = subprocess.Popen(command, env={**self._env, **env}, stdout=log, stderr=log, cwd=folder)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    @property
    def running(self) -> bool:
        return self._process is not None

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def log_events(self) -> list[str]:
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return [json.loads(line).get("event", "") for line in lines]


class World:
    """One namespace with what a test needs to look at it and to change it."""

    def __init__(self, namespace: str, cluster: Cluster, activity: RedisActivity, operator: OperatorProcess) -> None:
        self.namespace = namespace
        self.cluster = cluster
        self.activity = activity
        self.operator = operator

    async def make_class(self, name: str = "default", **spec: Any) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.CLASS_KIND,
            "metadata": {"name": name},
            "spec": {"image": IMAGE, "gracePeriodSeconds": 1, **spec},
        }
        await self.cluster.apply(CLASSES, body, "test")

    async def make_session(self, class_name: str = "default", uuid: str | None = None, **spec: Any) -> str:
        uuid = uuid or str(uuid4())
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.SESSION_KIND,
            "metadata": {"name": uuid},
            "spec": {"owner": "ann", "classRef": {"name": class_name}, **spec},
        }
        await self.cluster.create(SESSIONS, body, "test")
        return uuid

    async def find(self, resource: Resource, name: str) -> Json | None:
        try:
            return await self.cluster.get(resource, name)
        except ApiNotFound:
            return None

    async def child(self, resource: Resource, session: str) -> Json | None:
        return await self.find(resource, names.child_name(session))

    async def status(self, session: str) -> Json:
        found = await self.find(SESSIONS, session)
        return {} if found is None else found.get("status", {})

    async def pods(self, session: str) -> list[Json]:
        found, _ = await self.cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        return found

    def report(self) -> str:
        """What a person wants to read when the test failed."""
        words = ["-n", self.namespace]
        parts = [
            kubectl(*words, "get", "sessions,sessionclasses,deployments,replicasets,pods", "-o", "wide", check=False),
            kubectl(*words, "get", "events", "--sort-by=.lastTimestamp", check=False),
        ]
        pods = kubectl(*words, "get", "pods", "-o", "name", check=False).split()
        parts += [f"{pod}\n{kubectl(*words, 'logs', pod, '--tail=30', check=False)}" for pod in pods[:10]]
        parts.append("operator:\n" + "\n".join(self.operator.log().splitlines()[-60:]))
        return "\n\n".join(parts)


@pytest.fixture(scope="session")
def definitions() -> None:
    """The two kinds are known to the cluster."""
    for definition in crds.load():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
    for definition in crds.load():
        kubectl("wait", "--for=condition=Established", f"crd/{definition['metadata']['name']}", "--timeout=30s")


@pytest.fixture
def namespace(definitions: None) -> Iterator[str]:
    """A namespace of the test's own, at the level restricted."""
    name = f"test-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def world(
    namespace: str, own_redis: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """A running operator and the clients of a front door."""

    async def nothing_unfinished() -> bool:
        return False

    cluster = Cluster(namespace)
    await cluster.start()
    activity = RedisActivity(Link.from_url(own_redis.url), lease=15, heartbeat=5, has_unfinished=nothing_unfinished)
    await activity.start()
    folder = tmp_path / "operator"
    folder.mkdir()
    operator = OperatorProcess(namespace, own_redis.url, folder / "log")
    operator.start()
    world = World(namespace, cluster, activity, operator)
    request.node.stash[REPORT] = world
    yield world
    if operator.running:
        await asyncio.to_thread(operator.stop)
    await activity.close()
    await cluster.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    world = item.stash.get(REPORT, None)
    if world is not None and report.failed and call.when == "call":
        report.sections.append(("cluster", world.report()))
    return report
