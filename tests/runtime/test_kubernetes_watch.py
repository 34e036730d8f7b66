"""Watches of an API server that forgets, breaks off, falls silent, or rejects requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import config

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.runtime.kubernetes import cluster as cluster_module
from session_manager.runtime.kubernetes import watch as watch_module
from session_manager.runtime.kubernetes.cluster import (
    PODS,
    ApiConflict,
    ApiError,
    ApiInvalid,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.watch import Watch
from tests.servers.kubernetes import ApiServer, api_server, hold, tell
from tests.waiting import until


def as_it_is(thing: dict[str, Any]) -> dict[str, Any]:
    return thing


def pod(name: str, version: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version), "managedFields": ["much"]}}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(watch_module, "BACKOFF", Backoff(0.01, 5.0))
    async with api_server(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
async def cluster(api: ApiServer) -> AsyncIterator[Cluster]:
    cluster = Cluster("default")
    await cluster.start()
    yield cluster
    await cluster.close()


@pytest.fixture
async def events(cluster: Cluster) -> AsyncIterator[tuple[Watch[Any], list[tuple[str, str]]]]:
    watch, reported = Watch(cluster, PODS, as_it_is), []
    watch.listen(lambda kind, thing: reported.append((kind, thing["metadata"]["name"])))
    yield watch, reported
    await watch.close()


Events = tuple[Watch[Any], list[tuple[str, str]]]


async def test_present_objects_and_events(api: ApiServer, events: Events):
    watch, reported = events
    api.pods = [pod("a")]
    api.watches = [tell(("MODIFIED", pod("a", 2)), ("BOOKMARK", pod("", 3)), ("DELETED", pod("a", 4)), then=hold)]
    watch.start()
    await until(lambda: len(reported) == 3)
    assert reported == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert (watch.objects, watch.healthy, api.lists) == ({}, True, 1)


async def test_a_watch_that_ends_continues_where_it_was(api: ApiServer, events: Events):
    watch, reported = events
    api.watches = [tell(("ADDED", pod("a", 2))), tell(("ADDED", pod("b", 3)), then=hold)]
    watch.start()
    await until(lambda: len(reported) == 2)
    assert (api.lists, set(watch.objects)) == (1, {"a", "b"})


async def test_objects_that_vanished_in_a_gap_are_reported(api: ApiServer, events: Events):
    watch, reported = events
    api.pods = [pod("a"), pod("b")]
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}

    async def meanwhile(response: web.StreamResponse) -> None:
        api.pods = [pod("b")]
        await tell(("ERROR", gone))(response)

    api.watches = [meanwhile, hold]
    watch.start()
    await until(lambda: ("DELETED", "a") in reported)
    assert (api.lists, set(watch.objects)) == (2, {"b"})


async def test_silence_is_noticed(api: ApiServer, events: Events, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster_module, "SILENCE", 0.05)
    watch, reported = events
    api.watches = [hold, hold, tell(("ADDED", pod("a", 2)), then=hold)]
    watch.start()
    await until(lambda: reported == [("ADDED", "a")])


async def test_an_unavailable_server_is_asked_again(api: ApiServer, events: Events):
    watch, _ = events
    api.refusal = (503, "")
    watch.start()
    await until(lambda: not watch.healthy and not watch.synced.is_set())
    api.refusal, api.pods = None, [pod("a")]
    await until(lambda: watch.healthy)
    assert set(watch.objects) == {"a"}


async def test_a_truncated_line_does_not_end_the_watch(api: ApiServer, events: Events):
    watch, _ = events

    async def cut_off(response: web.StreamResponse) -> None:
        await response.write(b'{"type": "ADDED", "obj')

    api.pods = [pod("a")]
    api.watches = [cut_off, tell(("ADDED", pod("b", 2)), then=hold)]
    watch.start()
    await until(lambda: "b" in watch.objects)
    assert (watch.healthy, set(watch.objects), api.lists) == (True, {"a", "b"}, 2)


async def test_an_object_that_cannot_be_parsed_does_not_hide_the_next(api: ApiServer, cluster: Cluster):
    watch = Watch(cluster, PODS, lambda thing: thing["spec"])
    api.pods = [pod("bad"), {**pod("good"), "spec": 7}]
    watch.start()
    await until(lambda: watch.objects == {"good": 7})
    await watch.close()


async def test_a_listener_that_fails_for_one_object_receives_the_next(api: ApiServer, cluster: Cluster):
    watch, reported = Watch(cluster, PODS, as_it_is), []

    def listen(kind: str, thing: dict[str, Any]) -> None:
        if thing["metadata"]["name"] == "bad":
            raise KeyError("spec")
        reported.append(thing["metadata"]["name"])

    watch.listen(listen)
    api.pods = [pod("bad"), pod("good")]
    watch.start()
    await until(lambda: reported == ["good"])
    await watch.close()


async def test_only_the_parsed_part_is_kept(api: ApiServer, cluster: Cluster):
    api.pods = [pod("a")]
    watch = Watch(cluster, PODS, lambda thing: {"metadata": {"name": thing["metadata"]["name"]}})
    watch.start()
    await watch.synced.wait()
    assert watch.objects == {"a": {"metadata": {"name": "a"}}}
    await watch.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (404, {"reason": "NotFound", "message": "no"}, ApiNotFound),
        (409, {"reason": "Conflict", "message": "no"}, ApiConflict),
        (422, {"reason": "Invalid", "message": "no"}, ApiInvalid),
        (403, {"reason": "Forbidden", "message": "no"}, ApiError),
        (429, {}, Unavailable),
        (500, "not JSON", Unavailable),
        (400, "not JSON", ApiError),
    ],
)
async def test_rejections(api: ApiServer, cluster: Cluster, status: int, body: Any, error: type[Exception]):
    api.refusal = (status, body)
    with pytest.raises(error):
        await cluster.get(PODS, "a")


async def test_a_closed_client(cluster: Cluster, api: ApiServer):
    await cluster.close()
    with pytest.raises(Unavailable):
        await cluster.get(PODS, "a")


async def test_no_cluster_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(StartupFailure, match="no Kubernetes API is configured"):
        await Cluster("default").start()


async def test_a_failure_is_logged_once_and_forgotten_when_the_watch_works_again(
    api: ApiServer, events: Events, caplog: pytest.LogCaptureFixture
):
    watch, _ = events
    api.refusal = (403, {"reason": "Forbidden", "message": "no rights"})
    watch.start()
    await until(lambda: watch.failed_for(0.1))
    assert watch.failure == "403 Forbidden: no rights"
    assert not watch.failed_for(60)
    assert [record.__dict__["reason"] for record in caplog.records] == [watch.failure]
    api.refusal = None
    await until(lambda: watch.healthy)
    assert not watch.failed_for(0)


async def test_a_watch_that_the_server_accepts_again_works_before_its_first_event(api: ApiServer, events: Events):
    watch, _ = events
    watch.start()
    await until(lambda: watch.healthy)
    watch._failed("away")
    watch.version = "1"
    await watch.close()
    watch.start()
    await until(lambda: watch.healthy)
    assert (watch.failure, api.lists) == ("", 1)


async def test_a_kind_that_the_cluster_does_not_serve(api: ApiServer, cluster: Cluster):
    watch = Watch(cluster, PODS, as_it_is, if_missing="install it")
    api.refusal = (404, "404 page not found")
    watch.start()
    await until(lambda: watch.failure == "install it")
    await watch.close()
