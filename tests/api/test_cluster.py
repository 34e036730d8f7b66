"""A front door whose pods run in a cluster: the part that needs no real cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from session_manager.aio.retry import Backoff
from session_manager.domain.access import EVERYTHING
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import watch as watch_module
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.kubernetes import ApiServer, api_server
from tests.waiting import until


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """It is away until a test says otherwise."""
    monkeypatch.setattr(watch_module, "BACKOFF", Backoff(0.01, 0.01))
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


async def test_no_request_is_rejected_for_good_before_the_classes_are_known(api: ApiServer, front: FrontDoor):
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
    assert (status, body["detail"]) == (400, "unknown class 'nope'; known classes: default")


async def test_known_classes_stay_known_while_the_cluster_is_away(api: ApiServer, front: FrontDoor):
    api.refusal = None
    await until(lambda: ready(front))
    api.refusal = (503, "")
    assert await ready(front)
    await front.create()


def resource(session: str, mode: str) -> dict[str, Any]:
    labels = {"sessionmanager.dev/install": "session-manager"}
    metadata = {"name": session, "uid": session, "resourceVersion": "2", "labels": labels}
    return {"metadata": metadata, "spec": {"owner": "ada", "classRef": {"name": "default"}, "mode": mode}}


@pytest.fixture
async def change(api: ApiServer, front: FrontDoor) -> Any:
    """Show the front door the resource of a session."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def play(response: web.StreamResponse) -> None:
        while True:
            await response.write(json.dumps({"type": "MODIFIED", "object": await events.get()}).encode() + b"\n")

    api.watches_of = {"sessions": play}
    api.refusal = None
    await until(lambda: ready(front))

    async def change(session: str, mode: str) -> None:
        events.put_nowait(resource(session, mode))
        await until(lambda: front.services.host.mode(session) == mode)

    return change


async def test_a_suspended_session_takes_no_message(front: FrontDoor, change: Any):
    session = await front.create()
    _, waiting = await front.chat(session, "one", wait=None)
    await change(session, "Suspended")
    for path, sent in (("chat", {"message": "two"}), ("wake", None)):
        status, body = await front.call("POST", f"/session/{session}/{path}", sent)
        assert status == 409, body
        assert "suspended" in body["detail"]
    _, found = await front.call("GET", f"/session/{session}/messages")
    assert [each["message_id"] for each in found["messages"]] == [waiting["message_id"]]
    assert await front.services.activity.fence(session, SessionClass("default"), suspend=True) == "PASSED"
    _, found = await front.call("GET", f"/session/{session}")
    assert found["reason"].startswith("suspended")
    await change(session, "Auto")
    await front.until_status(session, "waking")
    assert (await front.chat(session, "two", wait=None))[0] == 202


async def test_only_its_owner_learns_that_a_session_is_suspended(front: FrontDoor, change: Any):
    await change(session := str(uuid4()), "Suspended")
    assert (await front.chat(session, "hello"))[0] == 404


async def test_a_session_that_is_always_on_is_not_put_to_sleep(front: FrontDoor, change: Any):
    session = await front.create()
    await change(session, "AlwaysOn")
    status, body = await front.call("POST", f"/session/{session}/sleep")
    assert status == 409
    assert "AlwaysOn" in body["detail"]
    record = await front.services.store.get_session(session, EVERYTHING)
    assert not await front.services.lifecycle.expire(record)
    assert (await front.services.store.get_session(session, EVERYTHING)).last_activity > record.last_activity


def made_by_a_person(session: str, owner: str) -> dict[str, Any]:
    metadata = {"name": session, "uid": session, "resourceVersion": "2"}
    return {"metadata": metadata, "spec": {"owner": owner, "classRef": {"name": "default"}, "mode": "Auto"}}


async def test_a_session_of_an_owner_who_cannot_be_a_user_is_not_adopted(
    api: ApiServer, front: FrontDoor, caplog: pytest.LogCaptureFixture
):
    """It does not keep the sweep from the others either, and is reported once."""
    good, bad = str(uuid4()), [str(uuid4()) for _ in range(3)]
    owners = dict(zip(bad, ("..", "e\u0301", "a/users/b"), strict=True)) | {good: "org/ada"}
    api.lists_of["sessions"] = [made_by_a_person(session, owner) for session, owner in owners.items()]
    api.refusal = None
    await until(lambda: ready(front))

    async def adopted() -> bool:
        return (await front.call("GET", f"/session/{good}"))[0] == 200

    await until(adopted)
    host: Any = front.services.host
    for _ in range(3):
        await host._sweep()
    assert [(await front.call("GET", f"/session/{session}"))[0] for session in bad] == [404] * 3
    refused = [each for each in caplog.records if getattr(each, "event", "") == "resource.refused"]
    assert sorted(each.session for each in refused) == sorted(bad)  # type: ignore[attr-defined]
    assert all(each.reason.startswith("spec.owner: ") for each in refused)  # type: ignore[attr-defined]
