"""The refill of a pool: pods start once no session claims one, or once they have waited for long enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import ApiInvalid, Cluster, Resource
from session_manager.runtime.kubernetes.pods import Pods, view_of
from session_operator import warm
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
        test, remove = patch
        pod = self.pods[name]
        index = int(test["path"].split("/")[3])
        assert remove["path"] == f"/spec/schedulingGates/{index}"
        if pod["spec"]["schedulingGates"][index]["name"] != test["value"]:
            raise ApiInvalid(422, "Invalid", "the test did not hold")
        del pod["spec"]["schedulingGates"][index]
        self.started.append((name, asyncio.get_running_loop().time()))
        return pod


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
