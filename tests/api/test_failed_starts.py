"""A pod that cannot start: everybody who waits for it learns why, and when the start is tried again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.front import FrontDoor, events

AGENT = Path(__file__).parents[1] / "servers" / "agents" / "agent.py"
WORDS = "no licence found"


@pytest.fixture
def licence(tmp_path: Path) -> Path:
    return tmp_path / "licence"


@pytest.fixture
def may_fail(tmp_path: Path) -> Path:
    return tmp_path / "may-fail"


@pytest.fixture
def classes(tmp_path: Path, licence: Path, may_fail: Path) -> Path:
    """A file with two classes whose pods cannot start until the licence exists. ``slow`` fails once it may."""
    check = f"import os, sys; os.path.exists({str(licence)!r}) or sys.exit({WORDS!r})"
    default = f"{check}; os.execvp('python', ['python', '-P', {str(AGENT)!r}])"
    slow = f"import os, time\nwhile not os.path.exists({str(may_fail)!r}): time.sleep(0.01)\n{check}"
    codes = {"default": default, "slow": slow}
    rows = [{"name": name, "command": ["python", "-P", "-c", code]} for name, code in codes.items()]
    path = tmp_path / "classes.yaml"
    path.write_text(yaml.safe_dump({"classes": rows}))
    return path


@pytest.fixture
async def front(start: Any, classes: Path) -> FrontDoor:
    """A front door that tries a failed start again after a minute."""
    return await start(session_classes=classes, retry_first=60.0)


def stream(front: FrontDoor, session: str) -> Any:
    headers = {"Accept": "text/event-stream"}
    return front.client.post(f"{front.url}/session/{session}/chat", json={"message": "hello"}, headers=headers)


def check(failure: Any) -> None:
    assert failure["reason"] == "CrashedAtStart"
    assert WORDS in failure["remedy"]
    assert failure["tries"] == 1
    assert failure["next_try"].endswith("Z")


async def test_a_chat_that_waits_is_answered_at_once_if_the_next_try_comes_later(front):
    session = await front.create()
    async with asyncio.timeout(15):
        status, body = await front.chat(session, "hello", wait=30)
    assert (status, body["status"], body["position"]) == (202, "queued", 1)
    check(body["failure"])
    assert "cannot start" in body["message"]
    check((await front.call("GET", f"/session/{session}"))[1]["failure"])


async def test_a_message_to_a_session_that_failed_before_is_told_so(front):
    session = await front.create()
    await front.chat(session, "hello", wait=30)
    status, body = await front.chat(session, "more", wait=None)
    assert (status, body["status"], body["position"]) == (202, "queued", 2)
    check(body["failure"])


async def test_streams_report_a_failed_start_also_when_they_begin_after_it(front):
    session = await front.create()
    feed = front.client.get(f"{front.url}/session/{session}/events")
    async with asyncio.timeout(15), feed as watching, stream(front, session) as sending:
        heard = events(sending)
        assert (await anext(heard))[0] == "turn.queued"
        for followed in (heard, events(watching)):
            check(await anext(data async for kind, data in followed if kind == "session.failed"))
    feed = front.client.get(f"{front.url}/session/{session}/events")
    async with asyncio.timeout(15), feed as watching, stream(front, session) as sending:
        heard = events(sending)
        assert (await anext(heard))[0] == "turn.queued"
        for followed in (heard, events(watching)):
            kind, data = await anext(followed)
            assert kind == "session.failed"
            check(data)


async def test_a_stream_goes_on_until_a_later_try_succeeds(start, classes, licence):
    front = await start(session_classes=classes)
    session = await front.create()
    heard = []
    async with asyncio.timeout(30), stream(front, session) as sending:
        async for kind, data in events(sending):
            heard.append((kind, data))
            if kind == "session.failed":
                licence.touch()
    assert heard[0][0] == "turn.queued"
    assert "session.failed" in dict(heard)
    assert heard[-1][1]["pod_response"]["reply"] == "hello"


@pytest.mark.parametrize("path", ["/run", "/run_sse"])
async def test_adk_callers_learn_of_a_failed_start(front, path):
    url = f"{front.url}/apps/default/users/ada/sessions"
    async with front.client.post(url, json={}) as created:
        session = await created.json()
        uuid = created.headers["X-Session-Id"]
    message = {"role": "user", "parts": [{"text": "hello"}]}
    body = {"appName": "default", "userId": "ada", "sessionId": session["id"], "newMessage": message}
    async with asyncio.timeout(15), front.client.post(f"{front.url}{path}", json=body) as answer:
        if path == "/run":
            assert answer.status == 503
            assert 0 < int(answer.headers["Retry-After"]) <= 60
            text = await answer.text()
        else:
            line = await anext(line async for line in answer.content if line.startswith(b"data: "))
            event = json.loads(line.removeprefix(b"data: "))
            assert (event["errorCode"], event["partial"], event["author"]) == ("CrashedAtStart", True, "default")
            text = event["errorMessage"]
    assert WORDS in text
    assert "tried again at" in text
    assert (await front.call("GET", f"/session/{uuid}"))[1]["queue_length"] == 1


async def test_a_run_that_has_begun_to_answer_ends_with_the_error(start, classes, may_fail):
    front = await start(session_classes=classes, retry_first=60.0, answer_within=0.05)
    async with front.client.post(f"{front.url}/apps/slow/users/ada/sessions", json={}) as created:
        session = await created.json()
    message = {"role": "user", "parts": [{"text": "hello"}]}
    body = {"appName": "slow", "userId": "ada", "sessionId": session["id"], "newMessage": message}
    async with asyncio.timeout(15), front.client.post(f"{front.url}/run", json=body) as answer:
        assert answer.status == 200
        may_fail.touch()
        [event] = await answer.json()
    assert event["errorCode"] == "CrashedAtStart"
    assert WORDS in event["errorMessage"]
