"""The whole life of a session, over HTTP, with real pods."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest


async def test_create_chat_sleep_wake_delete(front):
    session = await front.create(name="first")
    assert await front.status(session) == "created"
    status, body = await front.chat(session, "hello there")
    assert status == 200, body
    assert body["status"] == "processed"
    assert "hello there" in json.dumps(body["pod_response"])
    assert await front.status(session) == "awake"
    status, body = await front.chat(session, "again", wait=None)
    assert (status, body["status"]) == (200, "processed")
    status, body = await front.call("POST", f"/session/{session}/sleep")
    assert (status, body["status"]) == (200, "sleeping")
    assert await front.status(session) == "sleeping"
    status, body = await front.chat(session, "third", wait=None)
    assert (status, body["status"], body["position"]) == (202, "queued", 1)
    await front.until_status(session, "awake")
    status, body = await front.call("DELETE", f"/session/{session}")
    assert (status, body["status"]) == (200, "terminated")
    for method, path in [("GET", ""), ("GET", "/status"), ("POST", "/wake"), ("DELETE", ""), ("GET", "/messages")]:
        status, _ = await front.call(method, f"/session/{session}{path}")
        assert status == 404
    assert (await front.chat(session, "late"))[0] == 404


async def test_an_idle_session_sleeps_and_wakes_on_the_next_message(start):
    front = await start(idle_timeout=0.5)
    session = await front.create()
    assert (await front.chat(session, "one"))[0] == 200
    await front.until_status(session, "sleeping")
    status, body = await front.chat(session, "two")
    assert (status, body["status"]) == (200, "processed")


async def test_messages_keep_their_order_and_results(front):
    session = await front.create()
    ids = []
    for number in range(5):
        status, body = await front.chat(session, f"sleep 0.0{number}", wait=None)
        assert status in {200, 202}
        ids.append(body["message_id"])
    status, body = await front.chat(session, "last")
    assert status == 200
    status, body = await front.call("GET", f"/session/{session}/messages?limit=3")
    first = [each["message_id"] for each in body["messages"]]
    status, body = await front.call("GET", f"/session/{session}/messages?cursor={body['next_cursor']}")
    messages = body["messages"]
    assert first + [each["message_id"] for each in messages][:2] == ids
    assert {each["status"] for each in messages} == {"processed"}
    assert body["next_cursor"] is None


async def pages(front, session: str, limit: int) -> list[int]:
    """Return the number of messages on each page."""
    lengths: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        status, body = await front.call(
            "GET", f"/session/{session}/messages?limit={limit}{cursor and f'&cursor={cursor}'}"
        )
        assert status == 200
        lengths.append(len(body["messages"]))
        cursor = body["next_cursor"]
    return lengths


@pytest.mark.parametrize(
    ("text", "limits"), [("short", {29: [29, 1], 30: [30], 500: [30]}), ("x" * 100_000, {500: [6, 6, 6, 6, 6, 0]})]
)
async def test_a_page_of_long_messages_is_short(front, text, limits):
    session = await front.create()
    for _ in range(30):
        assert (await front.chat(session, text))[0] == 200
    assert {limit: await pages(front, session, limit) for limit in limits} == limits


async def test_idempotency_key(front):
    session = await front.create()
    key = {"Idempotency-Key": "k-1"}
    first = await front.chat(session, "once", **key)
    assert await front.chat(session, "once", **key) == first
    status, body = await front.chat(session, "another", **key)
    assert status == 409
    assert "Idempotency-Key" in body["title"]


async def test_two_front_doors_share_sessions(start):
    one, two = await start(), await start()
    session = await one.create()
    status, body = await two.chat(session, "from two")
    assert (status, body["status"]) == (200, "processed")
    results = await asyncio.gather(*(door.chat(session, f"m{n}") for n, door in enumerate([one, two] * 5)))
    assert {status for status, _ in results} == {200}


async def test_cancel_waiting_and_running(front):
    session = await front.create()
    assert (await front.chat(session, "wake up"))[0] == 200
    _, running = await front.chat(session, "sleep 30", wait=0)
    _, waiting = await front.chat(session, "waits", wait=None)
    path = f"/session/{session}/messages"
    status, body = await front.call("POST", f"{path}/{waiting['message_id']}/cancel")
    assert (status, body["status"], body["error"]) == (200, "failed", "cancelled")
    assert (await front.call("GET", f"{path}/{running['message_id']}"))[1]["status"] == "running"
    status, body = await front.call("POST", f"{path}/{running['message_id']}/cancel")
    assert (status, body["status"]) == (200, "failed")
    assert (await front.call("POST", f"{path}/{running['message_id']}/cancel"))[0] == 409
    assert (await front.chat(session, "after"))[0] == 200


async def test_stream_of_a_turn(front):
    session = await front.create()
    headers = {"Accept": "text/event-stream"}
    url = f"{front.url}/session/{session}/chat"
    async with front.client.post(url, json={"message": "stream one two three"}, headers=headers) as response:
        assert response.status == 200
        text = (await response.read()).decode()
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "turn.queued"
    assert kinds.count("delta") >= 3
    assert kinds[-1] == "turn.processed"


async def test_a_stream_says_that_its_session_was_deleted(front):
    session = await front.create()
    headers = {"Accept": "text/event-stream"}
    url = f"{front.url}/session/{session}/chat"
    async with front.client.post(url, json={"message": "sleep 60"}, headers=headers) as response:
        await front.until_status(session, "awake")
        assert (await front.call("DELETE", f"/session/{session}"))[0] == 200
        text = (await response.read()).decode()
    assert text.endswith("event: session.deleted\ndata: {}\n\n")


async def test_the_feed_replays_and_goes_on(front):
    session = await front.create()
    await front.chat(session, "first")
    events = []
    async with front.client.get(f"{front.url}/session/{session}/events", headers={"Last-Event-ID": "0"}) as response:
        async for line in response.content:
            if line.startswith(b"id: "):
                events.append(int(line[4:].partition(b"-")[0]))
                if len(events) == 1:
                    second = asyncio.create_task(front.chat(session, "second"))
                if len(events) == 2:
                    break
        await second
    assert events == [1, 2]


async def test_a_caller_that_hangs_up_does_not_stop_the_turn(front):
    session = await front.create()
    await front.chat(session, "wake up")
    hung_up = asyncio.create_task(front.chat(session, "sleep 1"))
    async with asyncio.timeout(5):
        while (await front.call("GET", f"/session/{session}"))[1]["queue_length"] == 0:
            await asyncio.sleep(0.01)
    hung_up.cancel()
    await asyncio.gather(hung_up, return_exceptions=True)
    assert (await front.chat(session, "next"))[0] == 200
    _, body = await front.call("GET", f"/session/{session}/messages")
    assert [each["status"] for each in body["messages"]] == ["processed"] * 3


async def test_a_pod_that_cannot_start(front):
    session = await front.create(**{"class": "broken"})
    status, _ = await front.chat(session, "hello", wait=0)
    assert status == 202
    await front.until_status(session, "failed")
    _, body = await front.call("GET", f"/session/{session}")
    assert body["reason"]
    assert body["queue_length"] == 1
    assert (await front.call("DELETE", f"/session/{session}"))[0] == 200


async def test_a_pod_that_dies_three_times_fails_the_message_and_the_next_goes_on(front):
    session = await front.create()
    status, body = await front.chat(session, "die")
    assert (status, body["status"]) == (200, "failed")
    assert body["error"] == (
        "the pod died 3 times while it worked on this message; "
        "the last time: exit code 3; its last output: out of ideas"
    )
    status, body = await front.chat(session, "still there?")
    assert (status, body["status"], body["pod_response"]["attempt"]) == (200, "processed", 1)


async def test_a_turn_that_takes_too_long(front):
    session = await front.create(**{"class": "short"})
    status, body = await front.chat(session, "sleep 60")
    assert (status, body["status"]) == (200, "failed")
    assert "longer than 0.5 s" in body["error"]
    assert (await front.chat(session, "next"))[1]["status"] == "processed"


async def test_a_pod_sees_no_secret(front):
    session = await front.create()
    _, body = await front.chat(session, "environment")
    seen = body["pod_response"]["environment"]
    assert {"HOME", "PORT", "PATH"} <= set(seen)
    assert not [name for name in seen if "REDIS" in name or "DB" in name or "KEY" in name]
    assert session in seen["HOME"]


async def test_keep_awake_and_sleep_when_idle(start):
    front = await start(idle_timeout=0.4)
    session = await front.create()
    status, body = await front.call("POST", f"/session/{session}/wake", {"keep_awake_seconds": 3600})
    assert (status, body["status"]) == (200, "waking")
    await front.until_status(session, "awake")
    _, running = await front.chat(session, "sleep 1.5", wait=0)
    assert (await front.call("POST", f"/session/{session}/sleep"))[0] == 409
    status, body = await front.call("POST", f"/session/{session}/sleep?when=idle")
    assert status == 200
    await front.until_status(session, "sleeping")
    _, message = await front.call("GET", f"/session/{session}/messages/{running['message_id']}")
    assert message["status"] == "processed"
    assert (await front.call("POST", f"/session/{session}/wake", {"keep_awake_seconds": 3601}))[0] == 400


async def test_expires_and_is_revived(start):
    front = await start(session_ttl=0.6, idle_timeout=0.2)
    session = await front.create()
    assert (await front.chat(session, "one"))[0] == 200
    await front.until_status(session, "expired")
    _, body = await front.call("GET", "/sessions")
    assert body["total"] == 0
    _, body = await front.call("GET", "/sessions?status=expired")
    assert [each["uuid"] for each in body["sessions"]] == [session]
    assert (await front.chat(session, "two"))[0] == 200


async def test_list_filters_and_pages(front):
    made = [await front.create(user_id=f"user-{n % 2}") for n in range(5)]
    _, body = await front.call("GET", "/sessions?limit=2")
    assert (body["total"], [each["uuid"] for each in body["sessions"]]) == (5, made[:2:-1])
    _, body = await front.call("GET", f"/sessions?limit=2&cursor={body['next_cursor']}")
    assert [each["uuid"] for each in body["sessions"]] == made[2:0:-1]
    _, body = await front.call("GET", "/sessions?user_id=user-1")
    assert body["total"] == 2
    await front.chat(made[0], "wake up")
    _, body = await front.call("GET", "/sessions?status=awake")
    assert [each["uuid"] for each in body["sessions"]] == [made[0]]
    _, body = await front.call("GET", "/sessions?status=created")
    assert body["total"] == 4


async def test_unknown_session_and_message(front):
    assert (await front.call("GET", f"/session/{uuid4()}"))[0] == 404
    session = await front.create()
    assert (await front.call("GET", f"/session/{session}/messages/{uuid4()}"))[0] == 404
