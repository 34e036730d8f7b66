"""A front door whose pods run in a cluster, as far as the cluster itself is not needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_manager.runtime.kubernetes import watch as watch_module
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.kubernetes import ApiServer, api_server
from tests.waiting import until


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """It is away until a test says otherwise."""
    monkeypatch.setattr(watch_module, "PAUSE_FIRST", 0.01)
    monkeypatch.setattr(watch_module, "PAUSE_LAST", 0.01)
    async with api_server(tmp_path, monkeypatch) as server:
        server.refusal = (503, "")
        server.lists_of = {"sessions": [], "sessionclasses": [session_class("default")]}
        yield server


@pytest.fixture
async def front(api: ApiServer, tmp_path: Path, redis_url: str) -> AsyncIterator[FrontDoor]:
    settings = settings_for(tmp_path, redis_url, session_runtime="kubernetes")
    async with front_door(settings) as front:
        yield front


def session_class(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"image": "agent:1"}}


async def ready(front: FrontDoor) -> bool:
    return (await front.call("GET", "/readyz"))[0] == 200


async def test_nothing_is_refused_for_good_before_the_cluster_has_told_its_classes(api: ApiServer, front: FrontDoor):
    status, body = await front.call("GET", "/readyz")
    assert (status, body["status"]) == (503, "not ready")
    assert "SessionClasses" in body["detail"]
    for path, sent in (("create", {"user_id": "ada"}), (f"{uuid4()}/chat", {"message": "hello"})):
        status, body = await front.call("POST", f"/session/{path}", sent)
        assert status == 503, body
        assert "SessionClasses" in body["detail"]
    api.refusal = None
    await until(lambda: ready(front))
    await front.create()
    status, body = await front.call("POST", "/session/create", {"user_id": "ada", "class": "nope"})
    assert (status, body["detail"]) == (400, "there is no class 'nope'; there are default")


async def test_what_was_known_stays_known_while_the_cluster_is_away(api: ApiServer, front: FrontDoor):
    api.refusal = None
    await until(lambda: ready(front))
    api.refusal = (503, "")
    assert await ready(front)
    await front.create()
