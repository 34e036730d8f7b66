"""Limits under concurrency, over two front doors: a rejected request leaves no trace, an accepted one is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.servers.front import FrontDoor
from tests.waiting import until

SERVICE = "service-key-0123456789"
ADA = "adas-own-key-0123456789"
KEYS = f"web:{SERVICE},ada-app@ada:{ADA}"
AS_ADA = {"Authorization": f"Bearer {ADA}"}
TAKEN = {200, 202}


@pytest.fixture
async def doors(start) -> list[FrontDoor]:
    limits = {"rate_limit_create": "10/hour", "rate_limit_chat": "30/hour"}
    return [await start(session_api_keys=KEYS, **limits) for _ in range(2)]


async def post(door: FrontDoor, path: str, body: Any, **headers: str) -> tuple[int, str | None, Any]:
    async with door.client.post(door.url + path, json=body, headers=headers) as response:
        return response.status, response.headers.get("Retry-After"), await response.json(content_type=None)


async def made(door: FrontDoor) -> str:
    _, _, body = await post(door, "/session/create", {"user_id": "ada"}, **AS_ADA)
    return str(body["uuid"])


async def test_chats_over_the_limit_leave_no_trace_and_the_others_have_one_result_each(doors):
    sessions = [await made(doors[0]) for _ in range(4)]
    sent = [(sessions[number % 4], f"message {number}") for number in range(100)]
    answers = await asyncio.gather(
        *(
            post(doors[number % 2], f"/session/{session}/chat", {"message": text}, **AS_ADA, Prefer="wait=0")
            for number, (session, text) in enumerate(sent)
        )
    )
    taken = {
        body["message_id"]: message for message, (status, _, body) in zip(sent, answers, strict=True) if status in TAKEN
    }
    refused = [(status, retry_after) for status, retry_after, _ in answers if status not in TAKEN]
    assert len(taken) == 30
    assert {status for status, _ in refused} == {429}
    assert all(1 <= int(retry_after or 0) <= 3600 for _, retry_after in refused)
    assert await results(doors[1], sessions) == {
        message_id: (session, text, text) for message_id, (session, text) in taken.items()
    }


async def results(door: FrontDoor, sessions: list[str]) -> dict[str, tuple[str, str, Any]]:
    """Return each recorded message with its session, text and reply, once all have ended."""

    async def messages() -> list[tuple[str, Any]]:
        found = []
        for session in sessions:
            _, page = await door.call("GET", f"/session/{session}/messages?limit=500", headers=AS_ADA)
            found += [(session, message) for message in page["messages"]]
        return found

    async def all_ended() -> bool:
        return all(message["finished_at"] for _, message in await messages())

    await until(all_ended)
    found = await messages()
    ended = {
        message["message_id"]: (session, message["message"], message["pod_response"]["reply"])
        for session, message in found
    }
    assert len(ended) == len(found)
    return ended


async def test_no_creation_slips_through(doors):
    answers = await asyncio.gather(
        *(post(doors[number % 2], "/session/create", {"user_id": "ada"}, **AS_ADA) for number in range(40))
    )
    statuses = [status for status, _, _ in answers]
    assert (statuses.count(201), statuses.count(429)) == (10, 30)
    assert all(int(retry_after or 0) >= 1 for status, retry_after, _ in answers if status == 429)
    _, listed = await doors[0].call("GET", "/sessions", headers=AS_ADA)
    assert listed["total"] == 10


async def test_users_have_limits_of_their_own(doors):
    await asyncio.gather(*(made(doors[number % 2]) for number in range(9)))
    for user, status in (("eve", 201), ("ada", 201)):  # a key counts its users apart
        answer = await post(doors[0], "/session/create", {"user_id": user}, Authorization=f"Bearer {SERVICE}")
        assert answer[0] == status
    assert (await post(doors[0], "/session/create", {"user_id": "ada"}, **AS_ADA))[0] == 201
    assert (await post(doors[1], "/session/create", {"user_id": "ada"}, **AS_ADA))[0] == 429


async def test_a_session_is_one_in_any_spelling(start):
    door = await start(session_api_keys=KEYS, rate_limit_wake="1/hour")
    as_service = {"Authorization": f"Bearer {SERVICE}"}
    _, _, body = await post(door, "/session/create", {"user_id": "ada"}, **as_service)
    session = body["uuid"]
    statuses = [
        (await post(door, f"/session/{each}/wake", None, **as_service))[0] for each in (session, session.upper())
    ]
    assert statuses == [200, 429]
