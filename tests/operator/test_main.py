"""The operator with all its parts but kopf, on an API server that lists what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from session_manager.runtime.kubernetes.cluster import Cluster, Resource
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
