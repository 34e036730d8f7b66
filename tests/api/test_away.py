"""Redis or the database is away: changes are rejected before anything is committed, reads go on, and all comes back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack

import pytest

from session_manager.domain.errors import StoreUnavailable
from tests.servers.front import front_door, settings_for


@pytest.fixture
async def on_own_redis(own_redis, tmp_path):
    """A front door on a Redis that the test can stop."""
    async with AsyncExitStack() as stack:
        limits = {f"rate_limit_{name}": "100000/minute" for name in ("create", "chat", "wake", "delete", "default")}
        settings = settings_for(tmp_path, own_redis.url, redis_timeout=0.5, **limits)
        yield await stack.enter_async_context(front_door(settings))


async def test_without_redis(on_own_redis, own_redis):
    front = on_own_redis
    session = await front.create()
    assert (await front.chat(session, "before"))[0] == 200
    own_redis.stop()
    for method, path, body in [
        ("POST", "/session/create", {"user_id": "ada"}),
        ("POST", f"/session/{session}/wake", None),
        ("POST", f"/session/{session}/chat", {"message": "x"}),
        ("POST", f"/session/{session}/sleep", None),
        ("DELETE", f"/session/{session}", None),
    ]:
        async with front.client.request(method, front.url + path, json=body) as response:
            assert response.status == 503, path
            assert int(response.headers["Retry-After"]) >= 1
    status, body = await front.call("GET", f"/session/{session}")
    assert (status, body["stale"], body["status"]) == (200, True, "sleeping")
    status, body = await front.call("GET", "/sessions")
    assert (status, body["stale"], body["total"]) == (200, True, 1)
    status, body = await front.call("GET", f"/session/{session}/messages")
    assert [each["message"] for each in body["messages"]] == ["before"]
    status, body = await front.call("GET", "/health")
    assert (status, body["status"], body["redis"], body["database"]) == (503, "unhealthy", "unhealthy", "healthy")
    assert (await front.call("GET", "/readyz"))[0] == 503
    assert (await front.call("GET", "/livez"))[0] == 200
    own_redis.start()
    async with asyncio.timeout(20):
        while (await front.call("GET", "/readyz"))[0] != 200:
            await asyncio.sleep(0.05)
    status, body = await front.chat(session, "after")
    assert (status, body["status"]) == (200, "processed")
    assert (await front.call("GET", f"/session/{session}"))[1]["status"] == "awake"


async def test_with_the_database_locked(start, tmp_path):
    front = await start(database_patience=0.3)
    session = await front.create()
    await front.chat(session, "before")
    with sqlite3.connect(tmp_path / "sessions.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        async with front.client.post(f"{front.url}/session/{session}/chat", json={"message": "x"}) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json(content_type=None))["detail"] == "The database is unavailable"
        assert (await front.call("GET", f"/session/{session}/messages"))[0] == 200
        other.execute("ROLLBACK")
    other.close()
    assert (await front.chat(session, "after"))[0] == 200
    _, body = await front.call("GET", f"/session/{session}/messages")
    assert [each["message"] for each in body["messages"]] == ["before", "after"]


async def test_a_turn_that_ends_while_the_database_is_locked_is_recorded_after(start, tmp_path):
    front = await start(database_patience=0.2)
    session = await front.create()
    await front.chat(session, "before")
    _, running = await front.chat(session, "sleep 0.3", wait=0)
    with sqlite3.connect(tmp_path / "sessions.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.wait([asyncio.create_task(front.chat(session, "refused"))])
        other.execute("ROLLBACK")
    other.close()
    path = f"/session/{session}/messages/{running['message_id']}"
    async with asyncio.timeout(20):
        while (await front.call("GET", path))[1]["status"] != "processed":
            await asyncio.sleep(0.02)
    assert (await front.call("GET", path))[1]["pod_response"]["attempt"] == 1


async def test_a_database_that_goes_away_after_the_accept(start, monkeypatch):
    front = await start()
    session = await front.create()
    get_message, refusals = front.services.store.get_message, iter(range(3))

    async def refuse_thrice(*args):
        if next(refusals, None) is not None:
            raise StoreUnavailable
        return await get_message(*args)

    monkeypatch.setattr(front.services.store, "get_message", refuse_thrice)
    status, body = await front.chat(session, "queued, while the pod wakes", wait=None)
    assert (status, body["status"]) == (202, "queued")
    status, body = await front.chat(session, "waits")
    assert (status, body["status"]) == (200, "processed")


async def test_a_stream_outlives_a_database_that_goes_away_for_a_moment(start, monkeypatch):
    front = await start()
    session = await front.create()
    get_message, refusals = front.services.store.get_message, iter(range(2))

    async def refuse_twice(*args):
        if next(refusals, None) is not None:
            raise StoreUnavailable
        return await get_message(*args)

    monkeypatch.setattr(front.services.store, "get_message", refuse_twice)
    headers = {"Accept": "text/event-stream"}
    url = f"{front.url}/session/{session}/chat"
    async with front.client.post(url, json={"message": "hello"}, headers=headers) as response:
        text = (await response.read()).decode()
    assert "event: turn.processed" in text


async def test_a_mistake_of_ours_is_a_problem_document(front, monkeypatch):
    session = await front.create()

    async def break_down(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(front.services.store, "accept", break_down)
    async with front.client.post(f"{front.url}/session/{session}/chat", json={"message": "x"}) as response:
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "Zero" not in (await response.json(content_type=None))["detail"]
