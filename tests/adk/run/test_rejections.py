"""Requests that ``/run`` and ``/run_sse`` reject, with the statuses and the wording of ADK's own server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adk.run.conftest import begin

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = pytest.mark.parametrize("path", ["/run", "/run_sse", "/adk/run", "/adk/run_sse"])
HELLO = {"role": "user", "parts": [{"text": "Hello"}]}


def body(**more: Any) -> dict[str, Any]:
    return {"appName": "default", "userId": "ada", "sessionId": "none", "newMessage": HELLO, **more}


@BOTH
async def test_an_unknown_session(door, path):
    assert await door.call("POST", path, body()) == (404, {"detail": "Session not found: none"})


@BOTH
async def test_a_session_of_another_user_is_unknown(door, path):
    adk = await begin(door, "default")
    refused = (404, {"detail": f"Session not found: {adk.session}"})
    assert await door.call("POST", path, adk.body("Hello"), headers={"X-User-Id": "bob"}) == refused
    assert await door.call("POST", path, adk.body("Hello", userId="bob")) == refused
    assert await adk.events() == []


@BOTH
async def test_no_app(door, path):
    status, answer = await door.call("POST", path, body(appName=None))
    assert (status, set(answer)) == (400, {"detail"})


@BOTH
@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"sessionId": None}, "sessionId"),
        ({"newMessage": {"role": "user", "parts": [{"text": 1}]}}, "newMessage"),
        ({"newMessage": {"role": "user", "parts": [{"words": "x"}]}}, "newMessage"),
        ({"stateDelta": []}, "stateDelta"),
    ],
)
async def test_a_body_that_adk_could_not_read(door, path, more, where):
    status, answer = await door.call("POST", path, body(**more))
    assert status == 422
    assert answer["detail"][0]["loc"][:2] == ["body", where]


async def test_neither_a_message_nor_an_invocation(door):
    adk = await begin(door, "default")
    nothing = adk.body("", newMessage=None)
    async with door.client.post(f"{door.url}/run", json=nothing) as response:
        assert (response.status, response.content_type) == (500, "text/plain")
    async with door.client.post(f"{door.url}/run_sse", json=nothing) as response:
        assert response.status == 200
        assert (await response.text()).startswith('data: {"error":')


@BOTH
async def test_a_message_that_is_too_long(door, path):
    adk = await begin(door, "default")
    status, answer = await door.call("POST", path, adk.body("x" * (1024 * 1024 + 1)))
    assert (status, set(answer)) == (413, {"detail"})
    status, answer = await door.call("POST", path, adk.body("x" * 9 * 1024 * 1024))
    assert (status, set(answer)) == (413, {"detail"})


async def test_snake_case_and_unknown_fields_are_taken(door):
    adk = await begin(door, "default")
    given = {"app_name": "default", "user_id": "ada", "session_id": adk.session, "new_message": HELLO, "more": 1}
    status, events = await door.call("POST", "/run", given)
    assert (status, len(events)) == (200, 1)
