"""Beyond ADK, for services over HTTP: appending, reading a part, the user's state, memory by word."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.session import Session
from google.genai.types import Content, Part

S = "/adk/apps/echo/users/ada/sessions"
ONE = f"{S}/one"


def said(text: str, **fields) -> Event:
    return Event(author="echo", content=Content(role="model", parts=[Part(text=text)]), **fields)


def json_of(event: Event):
    return event.model_dump(mode="json", exclude_none=True)


def _parts(event: Event) -> list[Part]:
    assert event.content is not None
    return event.content.parts or []


@pytest.fixture
async def front(ours):
    assert (await ours.call("POST", S, {"sessionId": "one"}))[0] == 200
    return ours


async def session_of(front, query: str = "") -> Session:
    status, body = await front.call("GET", ONE + query)
    assert status == 200, body
    return Session.model_validate(body)


async def append(front, *events: Event, **fields):
    return await front.call("POST", f"{ONE}/events", {"events": [json_of(each) for each in events], **fields})


async def test_append(front):
    first = said("one", actions=EventActions(state_delta={"a": 1, "user:b": None, "temp:c": 1}))
    status, body = await append(front, first)
    assert status == 200
    session = await session_of(front)
    assert session.last_update_time == body["lastUpdateTime"]
    assert session.state == {"a": 1, "user:b": None}
    kept = first.model_copy(deep=True)
    del kept.actions.state_delta["temp:c"]
    assert session.events == [kept]


async def test_an_append_is_whole_or_nothing(front):
    """The last of three events is rejected."""
    bad = json_of(said("three")) | {"actions": {"nope": 1}}
    events = [json_of(said("one")), json_of(said("two")), bad]
    status, body = await front.call("POST", f"{ONE}/events", {"events": events})
    assert (status, body["detail"][0]["loc"]) == (422, ["body", "events", 2, "actions", "nope"])
    too_long = json_of(said("three")) | {"id": "x" * 500}
    status, body = await front.call("POST", f"{ONE}/events", {"events": [*events[:2], too_long]})
    assert (status, set(body)) == (400, {"detail"})
    assert (await session_of(front)).events == []


async def test_a_known_event_is_ignored_and_a_partial_one_not_stored(front):
    event = said("once", actions=EventActions(state_delta={"n": 1}))
    times = {(await append(front, event))[0] for _ in range(3)}
    assert times == {200}
    assert (await append(front, said("piece", partial=True)))[0] == 200
    session = await session_of(front)
    assert [each.id for each in session.events] == [event.id]


async def test_an_older_copy_is_rejected(front):
    session = await session_of(front)
    _, first = await append(front, said("one"), lastUpdateTime=session.last_update_time)
    status, body = await append(front, said("two"), last_update_time=session.last_update_time)
    assert (status, set(body)) == (409, {"detail"})
    assert (await append(front, said("two"), lastUpdateTime=first["lastUpdateTime"]))[0] == 200
    assert len((await session_of(front)).events) == 2


async def test_bodies_that_cannot_be_appended(front):
    path = f"{S}/nobody/events"
    assert await front.call("POST", path, {"event": json_of(said("x"))}) == (404, {"detail": "Session not found"})
    empty: tuple[Any, ...] = ({}, {"events": []}, {"event": None})
    for body in empty:
        assert (await front.call("POST", f"{ONE}/events", body))[0] == 400
    unreadable: tuple[Any, ...] = ({"event": []}, {"events": {}}, [], None, {"event": {"author": 1}})
    for body in unreadable:
        assert (await front.call("POST", f"{ONE}/events", body))[0] == 422


async def test_no_change_of_state_is_lost(front):
    """ADK's own server answers most of these with 500."""
    names = [f"k{number}" for number in range(24)]
    answers = await asyncio.gather(
        *(front.call("PATCH", ONE, {"stateDelta": {name: 1, "app:last": name}}) for name in names)
    )
    assert {status for status, _ in answers} == {200}
    session = await session_of(front)
    assert {key for key in session.state if key != "app:last"} == set(names)
    assert len(session.events) == len(names)
    assert len({each.timestamp for each in session.events}) == len(names)


async def test_reading_a_part(front):
    events = [said(str(number), timestamp=1_900_000_000.0 + number) for number in range(5)]
    assert (await append(front, *events))[0] == 200

    async def texts(query: str) -> str:
        session = await session_of(front, query)
        return "".join(part.text or "" for each in session.events for part in _parts(each))

    assert await texts("?num_recent_events=2") == "34"
    assert await texts("?num_recent_events=0") == ""
    assert await texts("?after_timestamp=1900000003") == "34"
    assert await texts("?after_timestamp=1900000001&num_recent_events=3") == "234"
    assert await texts("?after_timestamp=0") == "01234"
    for query in (
        "num_recent_events=-1",
        f"num_recent_events={2**63}",
        "num_recent_events=x",
        "after_timestamp=x",
        "after_timestamp=nan",
    ):
        assert (await front.call("GET", f"{ONE}?{query}"))[0] == 422, query


async def test_user_state(front):
    assert await front.call("GET", "/apps/echo/users/ada/state") == (200, {})
    await front.call("PATCH", ONE, {"stateDelta": {"user:a_b": {"c_d": None}, "app:x": 1, "y": 2}})
    assert await front.call("GET", "/apps/echo/users/ada/state") == (200, {"a_b": {"c_d": None}})
    assert await front.call("GET", "/apps/other/users/ada/state") == (200, {})
    await front.call(
        "PATCH", ONE, {"stateDelta": {"user:a_b": None, "user:key": {"authType": "apiKey", "apiKey": "x"}}}
    )
    shown = {"a_b": None, "key": {"authType": "apiKey"}}
    assert await front.call("GET", "/apps/echo/users/ada/state") == (200, shown)
    kept = {"a_b": None, "key": {"authType": "apiKey", "apiKey": "x"}}
    assert await front.call("GET", "/apps/echo/users/ada/state?stored=true") == (200, kept)


async def test_memory(front):
    await append(front, said("The harbour was quiet.", timestamp=10.5), said("Rain all night"))
    path = "/apps/echo/users/ada/memory"
    assert await front.call("GET", f"{path}?query=harbour") == (200, {"memories": []})
    assert await front.call("PATCH", path, {"sessionId": "one"}) == (200, None)
    _, found = await front.call("GET", f"{path}?query=HARBOUR+nothing")
    [memory] = found["memories"]
    assert memory["content"]["parts"] == [{"text": "The harbour was quiet."}]
    assert (memory["author"], memory["timestamp"]) == ("echo", "1970-01-01T00:00:10.500000+00:00")
    assert len((await front.call("GET", f"{path}?query=rain+harbour&limit=1"))[1]["memories"]) == 1
    for query in ("", "?query=x&limit=0", "?query=x&limit=101"):
        assert (await front.call("GET", path + query))[0] == 422
    for query in ("%00", "_" * 60_000, "%25", "rai_"):
        assert await front.call("GET", f"{path}?query={query}") == (200, {"memories": []})


async def test_numbers_stay_exact(front):
    state = {"big": 2**80, "float": 0.1 + 0.2, "small": -(2**70), "nested": [{"x": 2**64}]}
    await front.call("PATCH", ONE, {"stateDelta": state})
    _, body = await front.call("GET", ONE)
    assert body["state"] == state
    assert body["events"][0]["actions"]["stateDelta"] == state


async def test_an_artifact_is_read_after_one_look_for_its_session(front, monkeypatch: pytest.MonkeyPatch):
    artifacts, store, looks = f"{ONE}/artifacts", front.services.store, []
    body = {"filename": "a", "artifact": {"text": "hello"}}
    status, saved = await front.call("POST", artifacts, body)
    assert status == 200, saved
    reference = {
        "filename": "b",
        "artifact": {"fileData": {"fileUri": saved["canonicalUri"], "mimeType": "text/plain"}},
    }
    assert (await front.call("POST", artifacts, reference))[0] == 200
    look = store.adk_record

    async def counted(key, access):
        looks.append(key)
        return await look(key, access)

    monkeypatch.setattr(store, "adk_record", counted)
    for path, answer in [("", ["a", "b"]), ("/b", {"text": "hello"}), ("/a/versions", [0])]:
        looks.clear()
        assert await front.call("GET", artifacts + path) == (200, answer)
        assert len(looks) == 1, path
