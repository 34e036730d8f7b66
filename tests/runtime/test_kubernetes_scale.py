"""The writes of a front door that stands in for the operator."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.cluster import ApiConflict, ApiError, ApiNotFound, Resource
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec, session_view
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses
from session_manager.runtime.kubernetes.workloads import ScaledWorkloads

SESSION = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
NAME = f"session-{SESSION}"
SPEC = SessionSpec(SESSION, "uid", ClassSpec(SessionClass("default")))


class World:
    """A Deployment's scale, and whether the operator is back. ``refusals`` come before a patch succeeds."""

    def __init__(self, replicas: int | None) -> None:
        self.replicas = replicas
        self.version = 7
        self.operator_is_back = False
        self.refusals: list[ApiError] = []
        self.patches: list[Any] = []
        self.rejection: ApiError | None = None
        self.session: dict[str, Any] = {"metadata": {"name": SESSION}, "spec": {"classRef": {"name": "default"}}}
        cluster: Any = self
        self.resources = Resources(cluster, ClusterClasses(120, 86_400, "agent:1", 1111))
        self.resources.classes.listed.set()
        self.workloads = ScaledWorkloads(cluster, self._may_write)

    async def act(self, act: str) -> None:
        if act == "sleep":
            await self.workloads.sleep(SESSION)
        else:
            await self.workloads.wake(SPEC)

    async def _may_write(self) -> bool:
        return not self.operator_is_back

    async def get(self, resource: Resource, name: str, subresource: str = "") -> dict[str, Any]:
        if self.rejection is not None:
            raise self.rejection
        if resource.plural == "sessions":
            return self.session
        assert (resource.plural, name, subresource) == ("deployments", NAME, "scale")
        if self.replicas is None:
            raise ApiNotFound(404, "NotFound", "")
        self.version += 1
        # The API server omits zero.
        spec = {"replicas": self.replicas} if self.replicas else {}
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": spec}

    async def merge_patch(self, resource: Resource, name: str, patch: Any, manager: str, subresource: str) -> None:
        assert (resource.plural, name, subresource, manager) == ("deployments", NAME, "scale", "session-scaler")
        self.patches.append(patch)
        if self.refusals:
            raise self.refusals.pop(0)


def patch(version: int, replicas: int) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version)}, "spec": {"replicas": replicas}}


async def test_it_scales_exactly_the_version_it_has_read():
    world = World(0)
    await world.workloads.wake(SPEC)
    assert world.patches == [patch(8, 1)]
    world = World(1)
    assert await world.workloads.sleep(SESSION)
    assert world.patches == [patch(8, 0)]


async def test_it_writes_nothing_if_the_scale_is_right():
    for replicas, act in ((1, "wake"), (0, "sleep"), (None, "sleep")):
        world = World(replicas)
        await world.act(act)
        assert not world.patches


async def test_it_reads_again_after_a_conflict():
    world = World(1)
    world.refusals = [ApiConflict(409, "Conflict", "")]
    assert await world.workloads.sleep(SESSION)
    assert world.patches == [patch(8, 0), patch(9, 0)]


async def test_it_gives_up_after_too_many_conflicts_and_without_the_right():
    for error, tries in ((ApiConflict(409, "Conflict", ""), 10), (ApiError(403, "Forbidden", "no"), 1)):
        world = World(1)
        world.refusals = [error] * 20
        with pytest.raises(Unavailable):
            await world.workloads.sleep(SESSION)
        assert len(world.patches) == tries


@pytest.mark.parametrize("act", ["wake", "sleep"])
async def test_it_writes_nothing_once_the_operator_is_back(act: str):
    world = World(1 if act == "sleep" else 0)
    world.operator_is_back = True
    with pytest.raises(Unavailable):
        await world.act(act)
    assert not world.patches


async def test_it_creates_no_deployment():
    world = World(None)
    with pytest.raises(Unavailable, match="only the operator"):
        await world.workloads.wake(SPEC)


async def test_it_wakes_only_sessions_that_may_run():
    world = World(0)
    spec = await world.resources.wakeable(SESSION)
    assert spec is not None
    assert spec.class_spec.base.image == "agent:1"
    world.session["spec"]["mode"] = "Suspended"
    with pytest.raises(PodCannotStart) as refusal:
        await world.resources.wakeable(SESSION)
    assert refusal.value.reason == "Suspended"
    world.session["spec"] = {"classRef": {"name": "gone"}}
    with pytest.raises(PodCannotStart) as refusal:
        await world.resources.wakeable(SESSION)
    assert refusal.value.reason == "ClassMissing"
    world.session["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    assert await world.resources.wakeable(SESSION) is None


async def test_a_lookup_that_the_api_rejects_may_succeed_later():
    world = World(0)
    world.rejection = ApiError(403, "Forbidden", "no")
    with pytest.raises(Unavailable, match="Forbidden"):
        await world.resources.wakeable(SESSION)


async def test_a_front_door_never_asks_the_api_for_a_session():
    world = World(0)
    cluster: Any = world
    world.rejection = ApiError(403, "Forbidden", "no")
    resources = Resources(cluster, world.resources.classes, ask_api=False)
    resources.classes.listed.set()
    assert await resources.wakeable(SESSION) is None
    resources.sessions.objects[SESSION] = session_view(world.session)
    assert await resources.wakeable(SESSION) is not None
