"""The operator counts each start of a pod by its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import Probe, SessionClass
from session_manager.runtime.kubernetes.cluster import Cluster
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator.health import Metrics
from tests.runtime.test_kubernetes_answering import POD
from tests.waiting import until

SESSION = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
CLASS = SessionClass("default", probe=Probe(startup_timeout=20))


class OnePod(Pods):
    """The pod of one session, once it was created."""

    def __init__(self, port: int) -> None:
        super().__init__(Cluster("default"))
        self.created: list[PodView] = []
        self.pod_to_create = replace(POD, uid="uid", port=port, ready=False)

    def of_session(self, session: str) -> list[PodView]:
        return self.created

    def get(self, uid: str) -> PodView | None:
        return next(iter(self.created), None)


class Workloads:
    """Creates the pod, unless there is a ``trouble``."""

    def __init__(self, pods: OnePod) -> None:
        self._pods = pods
        self.trouble: Trouble | None = None
        self.nothing = False

    async def wakeable(self, session: str) -> SessionSpec | None:
        return SessionSpec(session, "uid", ClassSpec(CLASS))

    async def wake(self, session: SessionSpec) -> None:
        if self.trouble is not None:
            raise PodCannotStart(self.trouble.reason, self.trouble.remedy)
        if not self.nothing:
            self._pods.created = [self._pods.pod_to_create]

    async def sleep(self, session: str) -> bool:
        return True

    async def end(self, pod: PodView) -> None: ...

    async def refusal(self, session: str) -> Trouble | None:
        return None

    async def forget(self, session: str, *, deleted: bool) -> None: ...


@pytest.fixture
async def agent() -> AsyncIterator[int]:
    """The port at which the agent answers its probe."""

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def workloads(agent: int) -> Workloads:
    return Workloads(OnePod(agent))


@pytest.fixture
async def runtime(workloads: Workloads, metrics: Metrics) -> AsyncIterator[KubernetesRuntime]:
    resources: Any = workloads
    runtime = KubernetesRuntime(resources, workloads._pods, workloads)
    runtime.on_started.append(metrics.started)
    yield runtime
    await runtime.answering.background.close()


def counted(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"session_operator_{name}", labels)


async def test_a_pod_that_answers_is_counted_and_timed(runtime: KubernetesRuntime, metrics: Metrics):
    await runtime.start_pod(SESSION, CLASS, lambda _: None)
    assert counted(metrics, "pod_starts_total", result="answered") == 1
    assert counted(metrics, "pod_start_seconds_count") == 1
    assert (counted(metrics, "pod_start_seconds_sum") or 0) > 0


async def test_a_pod_that_cannot_start_is_counted_by_its_reason(
    runtime: KubernetesRuntime, workloads: Workloads, metrics: Metrics
):
    workloads.trouble = Trouble("QuotaExceeded", "raise it")
    with pytest.raises(PodCannotStart):
        await runtime.start_pod(SESSION, CLASS, lambda _: None)
    assert counted(metrics, "pod_starts_total", result="QuotaExceeded") == 1
    assert counted(metrics, "pod_start_seconds_count") == 0


async def test_a_pod_that_is_no_longer_wanted_is_counted(
    runtime: KubernetesRuntime, workloads: Workloads, metrics: Metrics
):
    workloads.nothing = True
    starting = asyncio.create_task(runtime.start_pod(SESSION, CLASS, lambda _: None))
    await until(lambda: runtime.answering.busy(SESSION))
    starting.cancel()
    await asyncio.wait((starting,))
    assert counted(metrics, "pod_starts_total", result="given up") == 1
