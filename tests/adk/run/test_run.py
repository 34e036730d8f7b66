"""``/run`` and ``/run_sse`` against pods of every kind: their answers, and the session afterwards."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from google.adk.cli.api_server import RunAgentRequest
from google.adk.cli.conformance.adk_web_server_client import AdkWebServerClient
from google.genai import types

from tests.adk.run.conftest import texts
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_agents_events_are_the_answer_and_the_session_has_both_sides(adk):
    before = len(await adk.events())
    [event] = await adk.run("Hello")
    stored = (await adk.events())[before:]
    assert texts(stored[:1]) == ["Hello"]
    assert stored[0]["author"] == "user"
    assert stored[1:] == [event]
    assert event["author"] == ("default" if adk.app == "default" else "tester")
    assert "Hello" in texts([event])[0]


async def test_adks_own_client_runs_an_agent(speaking):
    message = types.Content(role="user", parts=[types.Part(text="stream one two")])
    request = RunAgentRequest(
        app_name=speaking.app, user_id="ada", session_id=speaking.session, new_message=message, streaming=True
    )
    async with AdkWebServerClient(f"{speaking.front.url}/adk") as client:
        events = [event async for event in client.run_agent(request)]
    assert [event.partial for event in events] == [True, True, None]
    shown = [event.model_dump(by_alias=True, exclude_none=True, mode="json") for event in events]
    assert texts(shown) == ["one", "two", "one two"]


async def test_deltas_only_for_callers_that_want_them(adk):
    streamed = await adk.run_sse("stream one two", streaming=True)
    assert [event.get("partial") for event in streamed] == [True, True, None]
    assert [text.strip() for text in texts(streamed)] == ["one", "two", "one two"]
    [whole] = await adk.run_sse("stream one two")
    assert texts([whole])[0].strip() == "one two"
    assert (await adk.events())[-1] == whole


async def test_both_doors_are_one_session(speaking):
    status, answer = await speaking.front.chat(speaking.uuid, "state colour")
    assert (status, answer["pod_response"]["reply"]) == (200, "colour='red'")
    [event] = await speaking.run("count")
    assert texts([event])[0].endswith("""'state colour', "colour='red'", 'count']""")
    assert texts((await speaking.events())[-4:-1]) == ["state colour", "colour='red'", "count"]


async def test_state_of_a_turn_and_of_a_caller(speaking):
    await speaking.run("count", stateDelta={"mood": "good", "temp:x": 1})
    state = (await speaking.get())["state"]
    assert (state["mood"], state["user:name"]) == ("good", "Ada")
    assert "temp:x" not in state
    assert "temp:scratch" not in state
    path = f"/adk/apps/{speaking.app}/users/ada/sessions/{speaking.session}"
    await speaking.front.call("PATCH", path, {"stateDelta": {"mood": "better"}})
    assert texts(await speaking.run("state mood")) == ["mood='better'"]


async def test_nothing_is_stored_twice(speaking):
    before = len(await speaking.events())
    for _ in range(3):
        await speaking.run("Hello")
    stored = (await speaking.events())[before:]
    assert texts(stored) == ["Hello", "You said Hello"] * 3
    assert len({event["id"] for event in stored}) == 6
    assert [event["timestamp"] for event in stored] == sorted(event["timestamp"] for event in stored)


async def test_an_agent_that_fails(speaking):
    body = speaking.body("fail")
    async with speaking.front.client.post(f"{speaking.front.url}/run", json=body) as response:
        assert response.status == 500
        assert "RuntimeError: no luck" in await response.text()
    assert texts((await speaking.events())[-3:-1]) == ["fail", "so far"]
    assert "RuntimeError: no luck" in (await speaking.events())[-1]["errorMessage"]
    *_, error = await speaking.run_sse("fail")
    assert "RuntimeError: no luck" in error["error"]
    status, answer = await speaking.front.chat(speaking.uuid, "fail")
    assert (status, answer["status"]) == (200, "failed")
    assert texts(await speaking.run("Hello")) == ["You said Hello"]


async def test_callers_at_once_take_turns(speaking):
    first = int(texts(await speaking.run("count"))[0].partition(":")[0])
    answers = await asyncio.gather(*(speaking.run("count") for _ in range(4)), speaking.run_sse("count"))
    numbers = sorted(int(texts(answer)[0].partition(":")[0]) for answer in answers)
    assert numbers == list(range(first + 1, first + 6))


async def test_a_caller_that_hangs_up_does_not_stop_the_turn(speaking, tmp_path: Path):
    flag = tmp_path / "go"
    before = len(await speaking.events())
    for path in ("/run", "/run_sse"):
        calling = asyncio.create_task(speaking.front.call("POST", path, speaking.body(f"wait {flag}")))
        await until(lambda: _running(speaking), 50)  # its pod may have to start
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        flag.touch()
        before += 3
        await _until_ended(speaking, before)
        flag.unlink()
    assert texts((await speaking.events())[-2:]) == ["waiting", "done"]


async def _running(adk) -> bool:
    _, answer = await adk.front.call("GET", f"/session/{adk.uuid}")
    return "a turn runs" in answer["reason"]


async def _until_ended(adk, count: int) -> None:
    async def ended() -> bool:
        return len(await adk.events()) == count and not await _running(adk)

    await until(ended)


async def test_a_long_turn_is_answered_200_and_then_waited_for(speaking, tmp_path: Path):
    flag = tmp_path / "go"
    async with speaking.front.client.post(f"{speaking.front.url}/run", json=speaking.body(f"wait {flag}")) as response:
        assert response.status == 200  # it has begun, and the turn has not ended
        assert await _running(speaking)
        flag.touch()
        assert texts(await response.json()) == ["waiting", "done"]


async def test_events_come_live_from_an_agent_that_works_on(speaking, tmp_path: Path):
    flag = tmp_path / "go"
    body = speaking.body(f"wait {flag}")
    async with speaking.front.client.post(f"{speaking.front.url}/run_sse", json=body) as response:
        line = await response.content.readline()
        assert b'"waiting"' in line
        flag.touch()
        rest = await response.content.read()
    assert rest.count(b'"done"') == 1
    assert b'"waiting"' not in rest


async def test_a_caller_that_does_not_wait_gets_a_location(adk):
    message = await adk.run_later("Hello")
    await until(lambda: _processed(adk, message), 50)
    assert (await adk.events())[-2]["id"] != message or adk.app != "keeps"
    status, answer = await adk.front.call("POST", "/run", adk.body("Hello"), headers={"Prefer": "wait=20"})
    assert (status, len(answer)) == (200, 1)


async def _processed(adk, message: str) -> bool:
    return (await adk.message(message))["status"] == "processed"


async def test_a_repeated_key_gives_the_same_events_and_runs_nothing(adk):
    headers = {"Idempotency-Key": f"key-{adk.app}"}
    first = await adk.front.call("POST", "/run", adk.body("Hello"), headers=headers)
    count = len(await adk.events())
    assert await adk.front.call("POST", "/run", adk.body("Hello"), headers=headers) == first
    assert len(await adk.events()) == count
    status, answer = await adk.front.call("POST", "/run", adk.body("Other"), headers=headers)
    assert (status, set(answer)) == (409, {"detail"})


async def test_a_long_running_tool_and_its_answer(speaking):
    [event] = await speaking.run("tool")
    assert event["longRunningToolIds"] == ["call-1"]
    assert (await speaking.events())[-1] == event
    answer = {"functionResponse": {"id": "call-1", "name": "approve", "response": {"ok": True}}}
    events = await speaking.run("", newMessage={"role": "user", "parts": [answer]})
    assert texts(events) == ["You said "]
    assert (await speaking.events())[-2]["content"]["parts"] == [answer]


async def test_pictures_go_both_ways(speaking):
    picture = base64.urlsafe_b64encode(b"\x00\xff" * 1024 * 1024).decode()
    parts = [{"text": "image 2000000"}, {"inlineData": {"mimeType": "image/png", "data": picture}}]
    [event] = await speaking.run("", newMessage={"role": "user", "parts": parts})
    stored = (await speaking.events())[-2:]
    assert stored[0]["content"]["parts"] == parts
    assert stored[1] == event


async def test_artifacts_are_reported_as_adk_reports_them(speaking):
    events = await speaking.run_sse("artifact words")
    assert texts(events) == ["words", ""]
    assert [event["actions"]["artifactDelta"] for event in events] == [{}, {"a.txt": 0}]
    stored = (await speaking.events())[-1]
    assert (texts([stored]), stored["actions"]["artifactDelta"]) == (["words"], {"a.txt": 0})


async def test_a_new_pod_knows_the_history_of_the_one_before(sessions):
    """The history is longer than a reply may be, and contains pictures."""
    adk = sessions["copies"]
    count = int(texts(await adk.run("count"))[0].partition(":")[0])
    said = len(await adk.events())
    assert (await adk.front.call("POST", f"/session/{adk.uuid}/sleep"))[0] == 200
    await adk.front.until_status(adk.uuid, "sleeping")
    [answer] = texts(await adk.run("count"))
    assert answer.startswith(f"{count + 1}: ")
    assert len(await adk.events()) == said + 2


async def test_a_pod_that_dies_is_asked_again(sessions, tmp_path: Path):
    """Events that it added to the session before stay, and the front door does not add them again."""
    adk = sessions["keeps"]
    message = await adk.run_later(f"die {tmp_path / 'died'}")
    await until(lambda: _processed(adk, message), 50)  # another pod starts
    assert texts((await adk.message(message))["pod_response"]["events"]) == ["about to die", "alive again"]
    ended = texts(await adk.events())[-5:]
    assert ended[1:3] == ["about to die", ended[0]]
    assert ended[3:] == ["about to die", "alive again"]
