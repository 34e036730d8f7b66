"""The behaviour that ADK expects of a session service, tested with this one and with one of google-adk's own."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

pytestmark = pytest.mark.asyncio(loop_scope="module")


def event(text: str = "Hi", delta: dict[str, Any] | None = None, **fields: Any) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=text)])
    return Event(
        author="user", invocation_id="e-1", content=content, actions=EventActions(state_delta=delta or {}), **fields
    )


async def read(service: BaseSessionService, session: Session, **config: Any) -> Session:
    wanted = GetSessionConfig(**config) if config else None
    who = {"app_name": session.app_name, "user_id": session.user_id}
    found = await service.get_session(**who, session_id=session.id, config=wanted)
    assert found is not None
    return found


async def test_create_and_get(service, who):
    state = {"a": {"b_c": None, "n": 10**30}, "user:u": 1, "app:p": [0.1], "temp:t": 2}
    made = await service.create_session(**who, state=state, session_id=" padded ")
    assert made.id == "padded"
    assert made.state == {"a": {"b_c": None, "n": 10**30}, "user:u": 1, "app:p": [0.1]}
    assert await read(service, made) == made
    other = await service.create_session(**who, session_id=" ")
    assert uuid.UUID(other.id)
    assert other.state == {"user:u": 1, "app:p": [0.1]}
    assert (await service.create_session(app_name=who["app_name"], user_id="bob")).state == {"app:p": [0.1]}
    assert await service.get_session(**who, session_id="unknown") is None


async def test_an_existing_id(service, who):
    await service.create_session(**who, session_id="one")
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**who, session_id="one", state={"user:u": 1})
    assert await service.get_user_state(**who) == {}
    await service.create_session(app_name=who["app_name"], user_id="bob", session_id="one")


async def test_append(service, who):
    session = await service.create_session(**who, state={"a": {"x": 1}})
    said = event(delta={"a": {"y": 2}, "n": None, "user:u": 1, "app:p": 2, "temp:t": 3})
    returned = await service.append_event(session, said)
    assert returned.actions.state_delta == {"a": {"y": 2}, "n": None, "user:u": 1, "app:p": 2}
    assert session.state == {"a": {"y": 2}, "n": None, "user:u": 1, "app:p": 2, "temp:t": 3}
    assert session.events == [returned]
    assert session.last_update_time == pytest.approx(said.timestamp, abs=1e-5)
    found = await read(service, session)
    assert found.state == {"a": {"y": 2}, "n": None, "user:u": 1, "app:p": 2}
    assert found.events == [returned]
    assert found.last_update_time == session.last_update_time
    assert await service.get_user_state(**who) == {"u": 1}


async def test_a_piece_is_not_stored(service, who):
    session = await service.create_session(**who)
    piece = event(delta={"a": 1}, partial=True)
    assert await service.append_event(session, piece) is piece
    assert (session.events, session.state) == ([], {})
    assert (await read(service, session)).events == []


async def test_whole_events_come_back_as_they_were(service, who):
    session = await service.create_session(**who)
    parts = [
        types.Part(inline_data=types.Blob(mime_type="image/png", data=bytes(range(256)))),
        types.Part(function_call=types.FunctionCall(id="c", name="f", args={"a_b": {"c_d": None}})),
        types.Part(text="thinking", thought=True, thought_signature=b"\xff\xfe"),
    ]
    said = Event(
        author="agent",
        invocation_id="e",
        branch="a.b",
        content=types.Content(role="model", parts=parts),
        long_running_tool_ids={"c"},
        custom_metadata={"k_v": {"x_y": None}},
        usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=5),
        actions=EventActions(artifact_delta={"f.txt": 1}, escalate=True, transfer_to_agent="b"),
    )
    await service.append_event(session, said)
    assert (await read(service, session)).events == [said]


async def test_a_writer_with_an_older_copy_is_rejected(service, who):
    session = await service.create_session(**who)
    older = await read(service, session)
    await service.append_event(session, event("first", {"a": 1}))
    with pytest.raises(StaleSessionError):
        await service.append_event(older, event("second", {"a": 2, "user:u": 2}))
    found = await read(service, session)
    assert (found.state, len(found.events)) == ({"a": 1}, 1)
    await service.append_event(found, event("third", {"a": 3}))


async def test_one_of_concurrent_writers_wins(service, who):
    session = await service.create_session(**who)
    copies = [await read(service, session) for _ in range(6)]
    writes = [service.append_event(copy, event(f"{number}")) for number, copy in enumerate(copies)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    stored = (await read(service, session)).events
    assert {each.id for each in stored} == {each.id for each in results if isinstance(each, Event)}
    assert len(stored) >= 1


async def test_a_deleted_session(service, who):
    session = await service.create_session(**who)
    await service.delete_session(**who, session_id=session.id)
    await service.delete_session(**who, session_id=session.id)
    assert await service.get_session(**who, session_id=session.id) is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, event())
    again = await service.create_session(**who, session_id=session.id)
    assert again.events == []


async def test_events_in_order_and_the_last_of_them(service, who):
    session = await service.create_session(**who)
    at = session.last_update_time + 1
    times = [at, at + 1, at + 1, at + 1, at + 2]
    # Of the same time: as they were appended on SQLite, by id on PostgreSQL, as ADK's own services do it.
    said = [event(str(number), id=f"e-{number}", timestamp=time) for number, time in enumerate(times)]
    for each in said:
        await service.append_event(session, each)
    assert (await read(service, session)).events == said
    assert (await read(service, session, num_recent_events=2)).events == said[3:]
    assert (await read(service, session, num_recent_events=0)).events == []
    assert (await read(service, session, after_timestamp=at + 1)).events == said[1:]
    assert (await read(service, session, after_timestamp=at + 1, num_recent_events=1)).events == said[4:]
    assert (await read(service, session, after_timestamp=0.0)).events == said


async def test_lists(service, monkeypatch, who):
    monkeypatch.setattr("session_manager.adk.service.PAGE", 2)
    made = [await service.create_session(**who, state={"n": number}) for number in range(5)]
    bobs = await service.create_session(app_name=who["app_name"], user_id="bob", state={"app:p": 1})
    await service.create_session(app_name=who["app_name"] + "-2", user_id="ada")
    await service.append_event(made[0], event())
    found = (await service.list_sessions(**who)).sessions
    assert [each.id for each in found] == [each.id for each in [*made[1:], made[0]]]
    assert [each.state for each in found] == [{"n": number, "app:p": 1} for number in (1, 2, 3, 4, 0)]
    assert not any(each.events for each in found)
    everybody = (await service.list_sessions(app_name=who["app_name"])).sessions
    assert [each.id for each in everybody] == [*(each.id for each in made[1:]), bobs.id, made[0].id]
    assert (await service.list_sessions(app_name="unknown")).sessions == []


async def test_values_that_are_not_json_are_stored_as_text(service, who):
    now = datetime(2026, 1, 2, tzinfo=UTC)
    session = await service.create_session(**who, state={"when": now})
    await service.append_event(session, event(delta={"then": now}))
    state = (await read(service, session)).state
    assert [str(state[name])[:10] for name in ("when", "then")] == ["2026-01-02"] * 2


async def test_user_state(service, who):
    assert await service.get_user_state(**who) == {}
    credential = {"auth_type": "apiKey", "api_key": "x"}
    await service.create_session(**who, state={"user:a": {"b": None}, "user:c": credential, "c": 1})
    assert await service.get_user_state(**who) == {"a": {"b": None}, "c": credential}


@pytest.mark.parametrize("user", ["a b", "ä@x.y", "100%", "a?b#c"])
async def test_names_of_any_kind(service, user, who):
    made = await service.create_session(app_name="an app: " + who["app_name"], user_id=user, session_id=f"{user}-1")
    assert await service.get_session(app_name="an app: " + who["app_name"], user_id=user, session_id=made.id) == made
