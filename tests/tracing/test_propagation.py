"""The trace context of a request arrives at the pod, whatever happens to the message in between."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.conftest import CLASSES
from tests.servers.front import front_door, settings_for
from tests.store.conftest import postgres, postgres_uri
from tests.tracing.test_context import PARENT, SPAN, TRACE
from tests.waiting import until

__all__ = ["postgres", "postgres_uri"]

STATE = "congo=t61rcWkgMzE"
HEADERS = {"traceparent": PARENT, "tracestate": STATE}
SENT = {"traceparent": PARENT, "tracestate": STATE}


@pytest.mark.parametrize("asleep", [True, False])
async def test_the_pod_gets_the_context_of_the_request(front, asleep):
    session = await front.create()
    if not asleep:
        await front.chat(session, "wake up")
    _, body = await front.chat(session, "trace", **HEADERS)
    assert body["pod_response"] == SENT
    _, body = await front.chat(session, "trace")
    assert body["pod_response"] == {}


async def test_a_request_sent_ahead_does_not_get_the_context_of_the_one_before(front):
    session, other = await front.create(), await front.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
    traced = f"traceparent: {PARENT}\r\ntracestate: {STATE}\r\n"
    writer.write(_chat(session, traced) + _chat(other, "Connection: close\r\n"))
    replies = (await reader.read()).decode()
    writer.close()
    assert replies.count("HTTP/1.1 200 ") == 2
    assert replies.count(PARENT) == 1


def _chat(session: str, headers: str) -> bytes:
    body = '{"message": "trace"}'
    kind = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nPrefer: wait=30\r\n"
    return f"POST /session/{session}/chat HTTP/1.1\r\n{kind}{headers}\r\n{body}".encode()


async def test_another_front_door_and_another_attempt_have_the_same_context(start):
    one, two = await start(), await start()
    session = await one.create()
    first = await one.chat(session, "sleep 0.5", wait=0)
    waiting = await two.chat(session, "trace", wait=0, **HEADERS)
    assert (first[0], waiting[0]) == (202, 202)
    _, body = await one.chat(session, "last")
    _, body = await one.call("GET", f"/session/{session}/messages/{waiting[1]['message_id']}")
    assert body["pod_response"] == SENT


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_restart_between_the_accept_and_the_turn_keeps_it(engine, tmp_path, redis_url, request):
    facts = {"session_db_uri": request.getfixturevalue("postgres_uri")} if engine == "postgresql" else {}
    settings = settings_for(tmp_path, redis_url, session_classes=CLASSES, shutdown_timeout=0.1, **facts)
    async with front_door(settings) as one:
        session = await one.create()
        _, running = await one.chat(session, "sleep 60", wait=0)
        status, waiting = await one.chat(session, "trace", wait=0, **HEADERS)
        assert (status, waiting["status"]) == (202, "queued")
    async with front_door(settings) as other:
        await other.call("POST", f"/session/{session}/messages/{running['message_id']}/cancel")

        async def answered() -> object:
            _, message = await other.call("GET", f"/session/{session}/messages/{waiting['message_id']}")
            return message["pod_response"]

        assert await until(answered) == SENT


@pytest.mark.parametrize("parent", [f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", "00-x", f"00-{'0' * 32}-{SPAN}-01"])
async def test_a_malformed_context_is_not_passed_on(front, parent):
    session = await front.create()
    _, body = await front.chat(session, "trace", traceparent=parent, tracestate=STATE)
    assert body["pod_response"] == {}


async def test_a_run_of_adk_passes_it_on_too(front):
    async with front.client.post(f"{front.url}/apps/default/users/ada/sessions", json={}) as created:
        session = (await created.json())["id"]
    message = {"role": "user", "parts": [{"text": "trace"}]}
    body = {"appName": "default", "userId": "ada", "sessionId": session, "newMessage": message}
    status, events = await front.call("POST", "/run", body, headers=HEADERS)
    assert status == 200
    assert PARENT in str(events)
