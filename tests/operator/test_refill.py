"""The refill of a pool: pods start once no session claims one, or once they have waited for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import ApiInvalid, Cluster, Resource
from session_manager.runtime.kubernetes.pods import Pods, view_of
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_operator import manifests, warm
from session_operator.warm import WarmPods
from tests.sim.clock import VirtualLoop

Json = dict[str, Any]


def gated(number: int, *, gates: Iterable[str] = (names.REFILL_GATE,), ready: bool = False) -> Json:
    conditions = [{"type": "Ready", "status": "True"}] if ready else []
    return {
        "metadata": {
            "name": f"warm-{number}",
            "uid": f"uid-{number}",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {names.WARM_LABEL: "default"},
        },
        "spec": {"containers": [{"name": "agent"}], "schedulingGates": [{"name": name} for name in gates]},
        "status": {"conditions": conditions},
    }


SESSION = SessionSpec("8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "s", ClassSpec(SessionClass("default"), warm=1))
WANTED = manifests.spec_hash(manifests.warm_template(SESSION.class_spec))


class Gates(Cluster):
    """Removes gates as the API server does. ``failures`` are raised first."""

    def __init__(self) -> None:
        super().__init__("default")
        self.pods: dict[str, Json] = {}
        self.started: list[tuple[str, float]] = []
        self.failures: list[Exception] = []

    async def json_patch(self, resource: Resource, name: str, patch: Iterable[Json], manager: str) -> Json:
        if self.failures:
            raise self.failures.pop()
        pod = self.pods[name]
        patch = list(patch)
        if len(patch) > 2:
            self._claim(pod, patch)
            patch = patch[:2] if "schedulingGates" in patch[0]["path"] else []
        if not patch:
            return pod
        test, remove = patch
        index = int(test["path"].split("/")[3])
        assert remove["path"] == f"/spec/schedulingGates/{index}"
        if pod["spec"]["schedulingGates"][index]["name"] != test["value"]:
            raise ApiInvalid(422, "Invalid", "the test did not hold")
        del pod["spec"]["schedulingGates"][index]
        self.started.append((name, asyncio.get_running_loop().time()))
        return pod

    @staticmethod
    def _claim(pod: Json, patch: list[Json]) -> None:
        pod["metadata"]["labels"] = {names.SESSION_LABEL: SESSION.uuid}

    async def list(self, resource: Resource, selector: str = "", fields: str = "") -> tuple[list[Json], str]:
        return [], "1"


class Pool(Pods):
    """A pool without a watch: ``show`` reports its pods."""

    def show(self, pod: Json) -> None:
        self._on_event("MODIFIED", view_of(pod))


class Bench:
    def __init__(self) -> None:
        self.cluster = Gates()
        self.pods = Pool(self.cluster)
        self.warm = WarmPods(self.cluster, self.pods)

    def show(self, pod: Json) -> None:
        self.cluster.pods[pod["metadata"]["name"]] = pod
        self.pods.show(pod)


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.warm.run())
    try:
        yield bench
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def in_virtual_time() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test())

    return run


def test_without_claims_a_pool_starts_at_once(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            began = asyncio.get_running_loop().time()
            bench.show(gated(1))
            await asyncio.sleep(0.1)
            assert bench.cluster.started == [("warm-1", began)]

    in_virtual_time(test)


def test_after_a_claim_it_waits_for_a_moment_without_claims(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            bench.warm.claimed()
            bench.show(gated(1))
            await asyncio.sleep(warm.QUIET * 0.8)
            bench.warm.claimed()
            await asyncio.sleep(warm.QUIET * 0.8)
            assert not bench.cluster.started
            await asyncio.sleep(warm.QUIET)
            assert [name for name, _ in bench.cluster.started] == ["warm-1"]

    in_virtual_time(test)


def test_endless_claims_do_not_starve_the_pool(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            bench.warm.claimed()
            bench.show(gated(1))
            began = asyncio.get_running_loop().time()
            while not bench.cluster.started:
                bench.warm.claimed()
                await asyncio.sleep(warm.QUIET / 4)
            [(_, at)] = bench.cluster.started
            assert warm.LATEST <= at - began < warm.LATEST + 1

    in_virtual_time(test)


def claimed(number: int, *, ready: bool = False) -> Json:
    """Return a pod that a session has claimed."""
    pod = gated(number, gates=(), ready=ready)
    pod["metadata"]["labels"] = {names.SESSION_LABEL: SESSION.uuid}
    return pod


def test_a_refill_waits_for_the_start_of_a_session_that_found_no_ready_pod(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            assert await bench.warm.claim(SESSION) is None
            bench.show(gated(1))
            bench.show(claimed(2))
            await asyncio.sleep(warm.LATEST * 2)
            assert not bench.cluster.started
            bench.show(claimed(2, ready=True))
            await asyncio.sleep(1)
            assert [name for name, _ in bench.cluster.started] == ["warm-1"]

    in_virtual_time(test)


def test_a_session_that_never_gets_ready_does_not_keep_the_pool_empty(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            await bench.warm.claim(SESSION)
            bench.show(gated(1))
            await asyncio.sleep(warm.OVERFLOW_LATEST + 1)
            assert [name for name, _ in bench.cluster.started] == ["warm-1"]

    in_virtual_time(test)


def of_pool(number: int, **spec: Any) -> Json:
    pod = gated(number, **spec)
    pod["metadata"]["annotations"] = {names.SPEC_HASH_ANNOTATION: WANTED}
    return pod


READY, STARTS = of_pool(3, gates=(), ready=True), of_pool(2, gates=())
CRASHED = of_pool(4, gates=())
CRASHED["status"]["containerStatuses"] = [{"name": "agent", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]


@pytest.mark.parametrize(
    ("pods", "first"),
    [
        ([of_pool(1), STARTS, READY], "warm-3"),
        ([of_pool(1), STARTS], "warm-2"),
        ([of_pool(1), of_pool(5)], "warm-1"),
        ([CRASHED, of_pool(5)], "warm-5"),
        ([CRASHED], None),
        ([gated(6, gates=(), ready=True)], None),  # of a former template
    ],
)
async def test_a_session_claims_the_pod_that_will_answer_first(pods: list[Json], first: str | None):
    bench = Bench()
    for pod in pods:
        bench.show(pod)
    found = bench.warm._next("default", WANTED, set())
    assert (found and found.name) == first


async def test_a_claim_of_a_gated_pod_removes_its_gate():
    bench = Bench()
    bench.show(of_pool(1, gates=("example.com/quota", names.REFILL_GATE)))
    pod = await bench.warm.claim(SESSION)
    assert pod is not None
    assert (pod.session, pod.gate) == (SESSION.uuid, None)
    assert bench.cluster.pods["warm-1"]["spec"]["schedulingGates"] == [{"name": "example.com/quota"}]
    assert SESSION.uuid in bench.warm.overflow


async def test_a_claim_of_a_ready_pod_holds_nothing_up():
    bench = Bench()
    bench.show(READY)
    assert await bench.warm.claim(SESSION) is not None
    assert not bench.warm.overflow


def test_a_limited_number_start_at_once_and_the_next_when_one_is_ready(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            for number in range(warm.AT_ONCE + 1):
                bench.show(gated(number))
            await asyncio.sleep(60)
            assert len(bench.cluster.started) == warm.AT_ONCE
            bench.show(gated(0, gates=(), ready=True))
            await asyncio.sleep(1)
            assert len(bench.cluster.started) == warm.AT_ONCE + 1

    in_virtual_time(test)


def test_a_foreign_gate_stays(in_virtual_time):
    async def test() -> None:
        async with running() as bench:
            pod = gated(1, gates=("example.com/quota", names.REFILL_GATE))
            bench.show(pod)
            await asyncio.sleep(1)
            assert pod["spec"]["schedulingGates"] == [{"name": "example.com/quota"}]

    in_virtual_time(test)


@pytest.mark.parametrize(("failure", "tries_again"), [(Unavailable("away"), True), (ApiInvalid(422, "x", "y"), False)])
def test_a_failure_is_retried_unless_it_is_final(in_virtual_time, failure: Exception, tries_again: bool):
    async def test() -> None:
        async with running() as bench:
            bench.cluster.failures.append(failure)
            bench.show(gated(1))
            await asyncio.sleep(2)
            assert bool(bench.cluster.started) is tries_again

    in_virtual_time(test)
