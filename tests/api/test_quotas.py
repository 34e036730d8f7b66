"""Quotas as callers see them: statuses, problem documents, ADK's shape, and what a session waits for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.servers.front import FrontDoor

SERVICE, ADA, EVE = "service-key-0123456789", "adas-own-key-0123456789", "eves-own-key-0123456789"
KEYS = f"web:{SERVICE},ada-app@ada:{ADA},eve-app@eve:{EVE}"
TYPE = "urn:session-manager:quota-exceeded"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_session_too_many_is_refused_in_both_shapes(start: Any) -> None:
    front = await start(sessions_per_user="1", quotas="eve.sessions=2")
    await front.create()
    assert await front.call("POST", "/session/create", {"user_id": "ada"}) == (
        403,
        {
            "type": TYPE,
            "title": "Quota exceeded",
            "status": 403,
            "detail": "ada has 1 of 1 sessions; delete some of them first",
            "quota": "sessions",
            "limit": 1,
            "used": 1,
        },
    )
    status, body = await front.call("POST", "/apps/weather/users/ada/sessions", {})
    assert (status, body) == (403, {"detail": "ada has 1 of 1 sessions; delete some of them first"})
    await front.create(user_id="eve")
    await front.create(user_id="eve")
    async with front.client.get(front.url + "/metrics", headers={"accept": "text/plain"}) as response:
        assert 'session_manager_quota_exceeded_total{quota="sessions"} 2.0' in await response.text()


async def test_a_full_queue_says_when_to_try_again(start: Any) -> None:
    front: FrontDoor = await start(messages_per_session="2", wakes_per_user="1", max_wakes="1")
    session = await front.create(**{"class": "never"})
    for _ in range(2):
        assert (await front.chat(session, "hello", wait=None))[0] == 202
    async with front.client.post(f"{front.url}/session/{session}/chat", json={"message": "hello"}) as response:
        body = await response.json(content_type=None)
        assert (response.status, response.headers["retry-after"]) == (429, "5")
    assert (body["type"], body["quota"], body["limit"], body["used"]) == (TYPE, "session_messages", 2, 2)
    run = {"appName": "never", "userId": "ada", "sessionId": session, "newMessage": {"parts": [{"text": "hello"}]}}
    for route in ("/run", "/run_sse"):
        status, body = await front.call("POST", route, run)
        assert (status, list(body)) == (429, ["detail"])


async def test_a_full_storage_says_what_to_delete(start: Any) -> None:
    front = await start(stored_per_user="100KB")
    session = await front.create()
    path = f"/apps/default/users/ada/sessions/{session}/artifacts"
    part = {"filename": "a.txt", "artifact": {"text": "x" * 90_000}}
    assert (await front.call("POST", path, part))[0] == 200
    status, body = await front.call("POST", path, part)
    assert status == 413
    _, shown = await front.call("GET", "/usage?user_id=ada")
    has = shown["stored_bytes"]["used"]
    assert body["detail"] == f"ada has {has} of 100000 bytes, and this needs more; delete sessions or artifacts first"
    assert (await front.call("DELETE", f"{path}/a.txt"))[0] == 200
    assert (await front.call("POST", path, part))[0] == 200
    status, body = await front.chat(session, "y" * 70_000, wait=None)
    assert (status, body["type"], body["quota"]) == (413, TYPE, "stored")
    _, shown = await front.call("GET", "/usage?user_id=ada")
    assert shown["stored_bytes"] == {"used": body["used"], "limit": body["limit"]}


async def test_a_session_over_the_quota_of_pods_waits_and_runs_when_another_one_sleeps(start: Any) -> None:
    front = await start(awake_per_user="1", idle_timeout="60")
    kept, waiting = await front.create(), await front.create()
    await front.call("POST", f"/session/{kept}/wake", {"keep_awake_seconds": 600})
    await front.until_status(kept, "awake")

    async def message_of_wake() -> str:
        return str((await front.call("POST", f"/session/{waiting}/wake"))[1]["message"])

    sentence = "Its pod starts as soon as one of the user's awake pods (1) goes to sleep."
    while await message_of_wake() != sentence:
        pass  # the scaler tells front doors within a second
    status, body = await front.chat(waiting, "hello", wait=None)
    assert (status, body["message"]) == (202, f"Your message is next; {sentence[0].lower()}{sentence[1:]}")
    _, body = await front.call("GET", f"/session/{waiting}")
    assert (body["status"], body["phase"]) == ("waking", "waiting until one of the user's awake pods (1) goes to sleep")
    assert (await front.call("POST", f"/session/{kept}/sleep"))[0] == 200
    status, body = await front.chat(waiting, "and again")
    assert (status, body["status"]) == (200, "processed")


async def test_an_idle_pod_makes_room_for_another_session_of_its_user(start: Any) -> None:
    front = await start(awake_per_user="1", idle_timeout="600")
    first, second = await front.create(), await front.create()
    for session in (first, second, first):
        status, body = await front.chat(session, "hello")
        assert (status, body["status"]) == (200, "processed")
    await front.until_status(second, "sleeping")


async def test_everybody_sees_their_own_usage(start: Any) -> None:
    front = await start(session_api_keys=KEYS, awake_per_user="off", quotas="ada.stored=1MB")
    status, body = await front.call("POST", "/session/create", {"user_id": "ada"}, headers=bearer(ADA))
    assert status == 201
    session = body["uuid"]
    await front.call("POST", f"/session/{session}/wake", headers=bearer(ADA))
    expected = {
        "user_id": "ada",
        "sessions": {"used": 1, "limit": 1000},
        "awake": {"used": 1, "limit": None},
        "messages": {"used": 0, "limit": 1000},
        "stored_bytes": {"used": 2, "limit": 1_000_000},
    }
    assert await front.call("GET", "/usage", headers=bearer(ADA)) == (200, expected)
    assert await front.call("GET", "/usage?user_id=ada", headers=bearer(SERVICE)) == (200, expected)
    assert await front.call("GET", "/usage", headers={**bearer(SERVICE), "x-user-id": "ada"}) == (200, expected)
    assert (await front.call("GET", "/usage?user_id=ada", headers=bearer(EVE)))[0] == 403
    assert (await front.call("GET", "/usage", headers=bearer(SERVICE)))[0] == 400
    _, eves = await front.call("GET", "/usage", headers=bearer(EVE))
    assert eves["sessions"] == {"used": 0, "limit": 1000}


@pytest.mark.parametrize("key", [EVE, None])
async def test_a_stranger_learns_nothing(start: Any, key: str | None) -> None:
    front = await start(session_api_keys=KEYS)
    status, _ = await front.call("GET", "/usage?user_id=ada", headers=bearer(key) if key else {})
    assert status == (403 if key else 401)
