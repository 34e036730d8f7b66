"""``/run`` and ``/run_sse`` against pods of every kind."""

from __future__ import annotations

import pytest

from tests.adk.run.conftest import Adk, texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS = ["default", "copies", "keeps"]
ADK_KINDS = ["copies", "keeps"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_answers_with_the_agents_events_and_the_session_has_both_sides(door, kind):
    adk = Adk(door, kind)
    session = await adk.create()
    [event] = await adk.run(session, "Hello")
    print(event)
    stored = (await adk.get(session))["events"]
    assert [each["author"] == "user" for each in stored] == [True, False]
    assert stored[1] == event
    assert texts(stored)[0] == "Hello"
    assert "Hello" in texts(stored)[1]


@pytest.mark.parametrize("kind", ADK_KINDS)
async def test_both_doors_are_one_session(door, kind):
    adk = Adk(door, kind)
    session = await adk.create(state={"colour": "red"})
    uuid = await adk.uuid_of(session)
    status, answer = await door.chat(uuid, "state colour")
    assert status == 200, answer
    assert answer["pod_response"]["reply"] == "colour='red'"
    assert texts(await adk.run(session, "count")) == ["1: ['state colour', \"colour='red'\", 'count']"]
    status, answer = await door.chat(uuid, "count")
    print(answer)
    found = await adk.get(session)
    assert found["state"] == {"colour": "red", "count": 2, "user:name": "Ada"}
    assert texts(found["events"])[0::2] == ["state colour", "count", "count"]
