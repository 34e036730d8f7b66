"""ADK's own Runner with its sessions kept here, and who may keep them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from google.adk.cli.service_registry import load_services_module
from google.adk.cli.utils.service_factory import create_session_service_from_options
from google.adk.events import Event, EventActions
from google.adk.runners import Runner
from google.genai import types

from session_manager.adk import SessionManagerSessionService
from tests.servers.adk_agents.tester import agent as tester
from tests.servers.front import FrontDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")


def runner(service: SessionManagerSessionService, who: Any) -> Runner:
    return Runner(app_name=who["app_name"], agent=tester.Tester(name="tester"), session_service=service)


def said(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def texts(events: list[Event]) -> list[str | None]:
    return [part.text for event in events if event.content for part in event.content.parts or []]


async def run(runner: Runner, session_id: str, text: str) -> list[str | None]:
    events = runner.run_async(user_id="ada", session_id=session_id, new_message=said(text))
    return texts([event async for event in events if not event.partial])


async def test_a_runner_keeps_its_sessions_here(ours: SessionManagerSessionService, front: FrontDoor, who: Any):
    session = await ours.create_session(**who, state={"colour": "red"})
    agent = runner(ours, who)
    assert await run(agent, session.id, "state colour") == ["colour='red'"]
    await run(agent, session.id, "stream one two")
    [counted] = await run(agent, session.id, "count")
    assert counted == "1: ['state colour', \"colour='red'\", 'stream one two', 'one two', 'count']"
    with pytest.raises(RuntimeError, match="no luck"):
        await run(agent, session.id, "fail")
    found = await ours.get_session(**who, session_id=session.id)
    assert found is not None
    assert texts(found.events)[-3:] == [texts(found.events)[-3], "fail", "so far"]
    assert found.state == {"colour": "red", "count": 1, "user:name": "Ada"}
    _, listed = await front.call("GET", f"/sessions?app={who['app_name']}")
    assert [each["user_id"] for each in listed["sessions"]] == ["ada"]


async def test_rewind(ours: SessionManagerSessionService, who: Any):
    session = await ours.create_session(**who)
    agent = runner(ours, who)
    await run(agent, session.id, "count")
    await run(agent, session.id, "count")
    found = await ours.get_session(**who, session_id=session.id)
    assert found is not None
    second = found.events[-1].invocation_id
    await agent.rewind_async(user_id="ada", session_id=session.id, rewind_before_invocation_id=second)
    found = await ours.get_session(**who, session_id=session.id)
    assert found is not None
    assert (found.state["count"], len(found.events)) == (1, 5)
    assert found.events[-1].actions.rewind_before_invocation_id == second


async def test_a_runner_without_an_event_loop(ours: SessionManagerSessionService, who: Any):
    session = await ours.create_session(**who)

    def work() -> list[str | None]:
        events = runner(ours, who).run(user_id="ada", session_id=session.id, new_message=said("Hello"))
        return texts(list(events))

    for _ in range(2):
        assert await asyncio.to_thread(work) == ["You said Hello"]


async def test_fields_that_rest_hides_are_kept(ours: SessionManagerSessionService, who: Any):
    """Credentials in the state and ADK's own marks: a runner needs them again."""
    session = await ours.create_session(**who, state={"token": {"access_token": "very secret"}})
    assert session.state["token"] == {"access_token": "very secret"}
    metadata = {"__adk_internal_mark": True}
    delta = {"credential": {"client_secret": "another"}}
    event = Event(author="a", invocation_id="e", custom_metadata=metadata, actions=EventActions(state_delta=delta))
    await ours.append_event(session, event)
    found = await ours.get_session(**who, session_id=session.id)
    assert found is not None
    assert found.state == {"token": {"access_token": "very secret"}, **delta}
    assert found.events == [event]
    assert (await ours.list_sessions(**who)).sessions[0].state == found.state


async def test_an_event_that_came_twice_is_one(ours: SessionManagerSessionService, who: Any):
    session = await ours.create_session(**who)
    event = Event(author="a", invocation_id="e", actions=EventActions(state_delta={"a": 1}))
    await ours.append_event(session, event)
    again = await ours.get_session(**who, session_id=session.id)
    assert again is not None
    await ours.append_event(again, event)
    found = await ours.get_session(**who, session_id=session.id)
    assert found is not None
    assert len(found.events) == 1


async def test_one_line_registers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    line = {"scheme": "session-manager", "type": "session", "class": "session_manager.adk.SessionManagerSessionService"}
    (tmp_path / "services.yaml").write_text(json.dumps({"services": [line]}))
    monkeypatch.syspath_prepend(str(tmp_path))
    load_services_module(str(tmp_path))
    uri = "session-manager://localhost:1"
    service = create_session_service_from_options(base_dir=str(tmp_path), session_service_uri=uri)
    assert isinstance(service, SessionManagerSessionService)


@pytest.mark.parametrize("uri", ["session-manager://", "session-manager://a:secret@host"])
async def test_an_invalid_address(uri: str):
    with pytest.raises(ValueError, match="SESSION_MANAGER"):
        SessionManagerSessionService(uri)
