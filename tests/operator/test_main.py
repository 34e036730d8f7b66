"""The operator with all its parts but kopf, on an API server that lists what the test wants."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import StartupFailure
from session_manager.runtime.kubernetes import watch
from session_manager.runtime.kubernetes.cluster import Cluster, Resource
from session_manager.runtime.kubernetes.resources import INSTALL_CRDS
from session_manager.scaling.scaler import Scaler
from session_operator import main
from session_operator.main import Operator
from session_operator.settings import OperatorSettings
from tests.servers.kubernetes import ApiServer, api_server
from tests.waiting import until

Json = dict[str, Any]

NEW, OLD = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b12"


def session(name: str) -> Json:
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    return {"metadata": metadata, "spec": {"owner": "ann"}}


def deployment(session: str) -> Json:
    owner = {"kind": "Session", "uid": f"uid-{session}"}
    metadata = {"name": f"session-{session}", "uid": "d", "generation": 1, "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": {"replicas": 0}}


def lists(sessions: Iterable[str], deployments: Iterable[str]) -> dict[str, list[Json]]:
    return {
        "sessions": [session(name) for name in sessions],
        "sessionclasses": [{"metadata": {"name": "default", "resourceVersion": "1"}, "spec": {"image": "agent:1"}}],
        "deployments": [deployment(name) for name in deployments],
        "pods": [],
    }


async def without_kopf(self: Operator) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    async def create(self: Cluster, resource: Resource, body: Json, manager: str) -> Json:
        found.append((resource.plural, body["metadata"]["name"].removeprefix("session-")))
        return {**body, "metadata": {**body["metadata"], "uid": "new", "generation": 1}}

    monkeypatch.setattr(Cluster, "create", create)
    return found


async def test_a_start_creates_only_the_children_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str, created: list[tuple[str, str]]
):
    monkeypatch.setattr(Operator, "_run_kopf", without_kopf)
    settings = OperatorSettings.from_environment(redis_url=redis_url, operator_host="127.0.0.1", operator_port=0)
    api: ApiServer
    async with api_server(tmp_path, monkeypatch) as api:
        api.lists_of = lists(sessions=(NEW, OLD), deployments=(OLD,))
        operator = Operator(settings)
        running = asyncio.create_task(operator.run())
        await until(lambda: len(created) == 3 and len(api.patched) == 2)
        operator._stop.set()
        await running
    assert sorted(created) == [("deployments", NEW), ("services", NEW), ("services", OLD)]
    assert {patch["status"]["phase"] for _, patch in api.patched} == {"Created"}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """An API server with fast retries of watches and of the start."""
    monkeypatch.setattr(Operator, "_run_kopf", without_kopf)
    monkeypatch.setattr(main, "BACKOFF", Backoff(0.01, 0.01))
    monkeypatch.setattr(watch, "BACKOFF", Backoff(0.01, 0.01))
    async with api_server(tmp_path, monkeypatch) as server:
        server.lists_of = lists(sessions=(), deployments=())
        yield server


class Running:
    """An operator that runs in the background."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.task = asyncio.create_task(operator.run())

    async def healthz(self) -> tuple[int, str]:
        """Return the status and the reason that /healthz answers, once it can be asked."""
        runner = await until(lambda: self.operator.health.runner and self.operator.health.runner.addresses)
        url = f"http://127.0.0.1:{runner[0][1]}"
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{url}/livez") as response:
                assert response.status == 200
            async with client.get(f"{url}/healthz") as response:
                return response.status, (await response.json()).get("reason", "")

    async def works(self) -> bool:
        return (await self.healthz())[0] == 200

    async def stop(self) -> None:
        self.operator._stop.set()
        await asyncio.wait((self.task,))


@pytest.fixture
async def running(api: ApiServer, redis_url: str) -> AsyncIterator[Callable[[], Running]]:
    """Starts an operator."""
    settings = OperatorSettings.from_environment(redis_url=redis_url, operator_host="127.0.0.1", operator_port=0)
    started: list[Running] = []

    def start() -> Running:
        started.append(Running(Operator(settings)))
        return started[-1]

    yield start
    for each in started:
        await each.stop()


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.__dict__.get("event") == event]


REJECTED = (403, {"reason": "Forbidden", "message": "no rights"})


@pytest.mark.parametrize("kind", ["deployments", "v1alpha1"])
async def test_a_start_waits_for_rights(
    api: ApiServer, running: Callable[[], Running], caplog: pytest.LogCaptureFixture, kind: str
):
    caplog.set_level(logging.INFO)
    api.refusals_of[kind] = REJECTED
    operator = running()
    await until(lambda: len(logged(caplog, "start.unreachable")) > 1)
    assert "403 Forbidden: no rights" in logged(caplog, "start.unreachable")[0]
    assert not operator.task.done()
    api.refusals_of.clear()
    await until(lambda: logged(caplog, "operator.running"))


async def test_a_scaler_that_ends_while_the_start_waits_ends_the_operator(
    api: ApiServer, running: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
):
    async def end(self: Scaler) -> None:
        await asyncio.sleep(0.05)

    monkeypatch.setattr(Scaler, "run", end)
    api.refusals_of["deployments"] = REJECTED
    with pytest.raises(StartupFailure, match="the loop scaler ended"):
        await asyncio.wait_for(running().task, 10)


@pytest.mark.parametrize("kind", ["sessions", "sessionclasses"])
async def test_the_operator_is_unhealthy_until_sessions_and_classes_are_listed(
    api: ApiServer,
    running: Callable[[], Running],
    caplog: pytest.LogCaptureFixture,
    kind: str,
):
    api.refusals_of[kind] = (404, "404 page not found")
    operator = running()
    assert (await operator.healthz())[0] == 503

    async def explained() -> bool:
        return (await operator.healthz()) == (503, INSTALL_CRDS)

    await until(explained)
    [line] = logged(caplog, "watch.failed")
    assert "install" in line
    api.refusals_of.clear()
    await until(operator.works)
    assert not operator.task.done()
    assert not any(record.exc_info for record in caplog.records if record.name.endswith("watch"))


async def test_the_operator_is_unhealthy_while_its_watches_fail_for_too_long(
    api: ApiServer, running: Callable[[], Running], monkeypatch: pytest.MonkeyPatch
):
    operator = running()
    await until(operator.works)
    sessions = operator.operator.resources.sessions
    sessions._failed("the API is away")
    assert await operator.works()
    monkeypatch.setattr(main, "WATCH_GRACE", 0.0)
    assert await operator.healthz() == (503, "the API is away")
    sessions._works()
    assert await operator.works()
