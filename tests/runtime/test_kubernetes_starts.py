"""Starts that wait for a volume while the Session changes, and starts that the API server refuses or cannot serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import runtime
from session_manager.runtime.kubernetes.cluster import ApiBroken, ApiConflict, ApiError, ApiInvalid
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClassSpec, Storage
from session_manager.runtime.kubernetes.steps import CREATING
from session_manager.runtime.kubernetes.trouble import Trouble
from tests.runtime.test_kubernetes_answering import POD, SESSION
from tests.waiting import until

CLASS = SessionClass("default")
OLD = SessionSpec(SESSION, "old", ClassSpec(CLASS, storage=Storage("1Gi")))
NEW = replace(OLD, uid="new")


class World:
    """Resources, pods and workloads in one. The volume is in use until ``leave``.

    ``found``: the Session, or why it cannot be woken. ``refusals``: raised by the first wakes. ``seen``: the pod while
    it is probed.
    """

    def __init__(self) -> None:
        self.found: SessionSpec | PodCannotStart | None = OLD
        self.left = asyncio.Event()
        self.waits = False
        self.woken: list[str] = []
        self.refusals: list[Exception] = []
        self.slept = 0
        self.seen: list[PodView] = []
        world: Any = self
        self.runtime = KubernetesRuntime(world, world, world)

    def listen(self, listener: Any) -> None: ...

    async def wakeable(self, session: str) -> SessionSpec | None:
        if isinstance(self.found, PodCannotStart):
            raise self.found
        return self.found

    def of_session(self, session: str) -> list[PodView]:
        return [POD if self.left.is_set() else replace(POD, leaving=True)]

    async def change(self, session: str) -> None:
        self.waits = True
        await self.left.wait()

    async def wake(self, session: SessionSpec) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.woken.append(session.uid)

    async def answers(self, pod: PodView, probe: Any, on_look: Callable[[PodView], None]) -> bool:
        for seen in self.seen:
            on_look(seen)
        return True

    async def sleep(self, session: str) -> bool:
        self.slept += 1
        return True

    async def start(self, then: SessionSpec | PodCannotStart | None) -> None:
        """Start the pod. The Session becomes ``then`` while the start waits for the volume."""
        starting = asyncio.create_task(self.runtime.start_pod(SESSION, CLASS, lambda _: None))
        await until(lambda: self.waits)
        self.found = then
        self.left.set()
        await starting


async def test_a_session_that_was_created_anew_during_the_wait_is_the_one_that_is_woken():
    world = World()
    await world.start(NEW)
    assert world.woken == ["new"]


async def test_a_session_that_was_deleted_during_the_wait_is_not_woken():
    world = World()
    with pytest.raises(Unavailable):
        await world.start(None)
    assert world.woken == []


async def test_a_session_that_was_suspended_during_the_wait_is_not_woken():
    world = World()
    with pytest.raises(PodCannotStart):
        await world.start(PodCannotStart("Suspended", "resume it"))
    assert world.woken == []


@pytest.fixture
def ready() -> World:
    """A world whose volume is free and whose pod is there as soon as it is woken."""
    world = World()
    world.left.set()
    return world


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (ApiInvalid(422, "Invalid", "requests must be at most the limit"), "ClassInvalid"),
        (ApiError(400, "BadRequest", "quantities must match"), "ClassInvalid"),
        (ApiError(403, "Forbidden", "exceeded quota: small"), "QuotaExceeded"),
        (ApiError(418, "", "a policy's own code"), "ClassInvalid"),
    ],
)
async def test_a_refused_start_fails_with_the_words_of_the_server(ready: World, refusal: ApiError, reason: str):
    ready.refusals = [refusal]
    with pytest.raises(PodCannotStart) as found:
        await ready.runtime.start_pod(SESSION, CLASS, lambda _: None)
    assert found.value.reason == reason
    assert found.value.remedy.startswith(refusal.message)
    assert ready.runtime.answering.troubles[SESSION].reason == reason
    assert (ready.slept, ready.runtime.answering.starting) == (1, {})


async def test_a_server_that_is_broken_is_asked_again_and_its_words_are_shown(
    ready: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtime, "WAKE_TRIES", Backoff(0, 0))
    words = "the Kubernetes API answered 500: failed calling webhook: context deadline exceeded"
    ready.refusals = [ApiBroken(words)] * 3
    phases: list[str] = []
    await ready.runtime.start_pod(SESSION, CLASS, phases.append)
    assert ready.woken == ["old"]
    assert phases.count(f"ApiBroken: {words}") == 1


async def test_a_server_that_stays_broken_fails_the_start_with_its_words(ready: World):
    ready.refusals = [ApiBroken("the Kubernetes API answered 500: webhook")] * 9
    hasty = replace(CLASS, probe=replace(CLASS.probe, startup_timeout=0.1))
    with pytest.raises(PodCannotStart) as found:
        await ready.runtime.start_pod(SESSION, hasty, lambda _: None)
    assert (found.value.reason, found.value.remedy) == ("ApiBroken", "the Kubernetes API answered 500: webhook")


async def test_a_conflict_is_tried_again_by_the_scaler(ready: World):
    ready.refusals = [ApiConflict(409, "Conflict", "it exists")]
    with pytest.raises(Unavailable):
        await ready.runtime.start_pod(SESSION, CLASS, lambda _: None)
    assert ready.runtime.answering.troubles == {}


async def test_the_steps_of_a_start_are_known_while_it_lasts(ready: World):
    answering = ready.runtime.answering
    steps: list[str] = []
    answering.on_step.append(
        lambda session: steps.append(answering.starting[session].step.words if session in answering.starting else "")
    )
    await ready.runtime.start_pod(SESSION, CLASS, lambda _: None)
    assert steps == [
        "asking the cluster for a pod",
        "waiting for the cluster to create the pod",
        "waiting for GET /health on port 1",
        "",
    ]


async def test_a_pod_with_an_address_whose_program_does_not_run_yet_says_what_it_waits_for(ready: World):
    trouble = Trouble("SidecarFailed", "container istio-init: the container ended with exit code 4", final=False)
    ready.seen = [replace(POD, step=CREATING), replace(POD, step=CREATING, trouble=trouble), POD]
    phases: list[str] = []
    await ready.runtime.start_pod(SESSION, CLASS, phases.append)
    assert phases[-3:] == [CREATING.words, f"SidecarFailed: {trouble.remedy}", "waiting for GET /health on port 1"]
