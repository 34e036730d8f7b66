"""KEDA is installed, is removed, and leaves objects behind."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from session_manager.runtime.kubernetes.cluster import Cluster
from session_manager.runtime.kubernetes.resources import Resources, session_view
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_operator.children import Children
from session_operator.keda import LEAVING, Keda
from session_operator.manifests import RedisTrigger
from tests.servers.kubernetes import ApiServer, api_server, tell
from tests.waiting import until

SESSION = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"


class World:
    """A Keda on an API server, and the sessions that it had reconciled."""

    def __init__(self, api: ApiServer, cluster: Cluster) -> None:
        self.api = api
        self.looked: list[str] = []
        resources = Resources(cluster, ClusterClasses(120, 86_400, "agent:1", 1111))
        resources.classes.listed.set()
        metadata = {"name": SESSION, "uid": "s"}
        resources.sessions.objects[SESSION] = session_view({"metadata": metadata, "spec": {"owner": "ann"}})
        warm: Any = None
        self.children = Children(cluster, warm, "keda", RedisTrigger("redis.example:6379"))
        self.keda = Keda(cluster, resources, self.children, self.looked.append)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with api_server(tmp_path, monkeypatch) as api:
        cluster = Cluster("default")
        await cluster.start()
        world = World(api, cluster)
        yield world
        await world.keda.close()
        await cluster.close()


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["event"] for record in caplog.records if "event" in record.__dict__]


async def test_it_may_be_installed_and_removed(world: World, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        await world.keda.look()
    assert (world.children.keda_served, world.looked) == (False, [])
    assert events(caplog) == ["keda.missing"]
    world.api.served = ["scaledobjects"]
    for _ in range(3):
        await world.keda.look()
    assert (world.children.keda_served, world.looked) == (True, [SESSION])
    world.api.served = []
    for _ in range(3):
        await world.keda.look()
    assert (world.children.keda_served, world.looked) == (False, [SESSION] * 2)
    assert events(caplog) == ["keda.missing", "keda.found", "keda.missing"]


async def test_nothing_is_logged_if_it_was_installed_before_a_class_needed_it(
    world: World, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    world.children.scaler = "native"
    world.api.served = ["scaledobjects"]
    await world.keda.look()
    world.children.scaler = "keda"
    await world.keda.look()
    assert events(caplog) == []


def scaled(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": f"session-{SESSION}", "uid": "o", "resourceVersion": "7", **metadata}}


async def test_its_finalizer_is_removed_from_a_scaled_object_that_cannot_leave(world: World):
    world.api.served = ["scaledobjects"]
    finalizers = ["finalizer.keda.sh", "example.com/other"]
    world.api.pods = [scaled(deletionTimestamp="2026-01-31T12:00:00Z", finalizers=finalizers)]
    await world.keda.look()
    await until(lambda: world.api.lists == 1)

    async def leaving() -> bool:
        await world.keda.let_go(100.0)
        return bool(world.keda.leaving)

    await until(leaving)
    await world.keda.let_go(100.0 + LEAVING - 1)
    assert not world.api.patched
    await world.keda.let_go(100.0 + LEAVING)
    patch = {"metadata": {"resourceVersion": "7", "finalizers": ["example.com/other"]}}
    assert world.api.patched == [(f"session-{SESSION}", patch)]


async def test_a_scaled_object_that_stays_keeps_its_finalizer(world: World):
    world.api.served = ["scaledobjects"]
    world.api.pods = [scaled(finalizers=["finalizer.keda.sh"])]
    await world.keda.look()
    await until(lambda: world.api.lists == 1)
    for seconds in (0.0, LEAVING, 10 * LEAVING):
        await world.keda.let_go(seconds)
    assert (world.api.patched, world.keda.leaving) == ([], {})


async def test_a_deleted_scaled_object_is_created_again(world: World):
    world.api.served = ["scaledobjects"]
    world.api.watches_of = {"scaledobjects": tell(("DELETED", scaled()))}
    await world.keda.look()
    world.looked.clear()
    await until(lambda: SESSION in world.looked)


async def test_after_keda_was_the_mode_its_scaled_objects_are_deleted(world: World, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    world.api.served = ["scaledobjects"]
    world.api.pods = [scaled()]
    await world.keda.look()
    await until(lambda: world.keda.watch and world.keda.watch.objects)
    await world.keda.remove_unwanted()
    assert not world.api.deleted
    world.children.scaler = "native"
    await world.keda.remove_unwanted()
    assert world.api.deleted == [f"session-{SESSION}"]
    assert "keda.removed" in events(caplog)


async def test_what_belongs_to_no_known_session_or_is_leaving_is_left_alone(world: World):
    world.children.scaler = "native"
    world.api.served = ["scaledobjects"]
    other = {"metadata": {"name": "somebodys", "uid": "x", "resourceVersion": "1"}}
    world.api.pods = [scaled(deletionTimestamp="2026-01-31T12:00:00Z"), other]
    await world.keda.look()
    await until(lambda: world.keda.watch and len(world.keda.watch.objects) == 2)
    await world.keda.remove_unwanted()
    assert not world.api.deleted
