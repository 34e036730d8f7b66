"""What a turn leaves is what ADK itself would have written."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from google.adk.events.event import Event
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain.adk.events import parse_event
from session_manager.domain.adk.model import AdkEvent, AdkKey
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros
from session_manager.pods.protocol import AdkExchange
from session_manager.turns.adk import reply_id, turn_events

ID = "01a1fe32-927a-79a2-8a12-9a85cc0c4483"
KEY = AdkKey("app", "ada", "s")
STORABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def message(text: str = "Hello", payload: dict[str, Any] | None = None) -> Message:
    given = None if payload is None else json.dumps(payload)
    return Message(ID, "uuid", 1, text, Micros(0), 1, 0, payload=given)


def read(event: AdkEvent | None) -> Event:
    """As google-adk reads it; its own words for it are the same."""
    assert event is not None
    found = Event.model_validate_json(event.data)
    assert found.model_dump_json(exclude_none=True) == event.data
    assert (found.id, found.invocation_id, found.timestamp) == event[:3]
    return found


def text_of(event: Event) -> str | None:
    assert event.content is not None
    assert event.content.parts is not None
    return event.content.parts[0].text


@given(STORABLE.filter(bool), STORABLE)
def test_a_message_and_its_reply(said: str, answered: str):
    began = time.time()
    turn = turn_events(message(said), "app", Outcome.processed(json.dumps({"reply": answered})), began)
    assert turn.is_plain
    user, reply = map(read, turn.events)
    assert (user.author, text_of(user), user.timestamp) == ("user", said, began)
    assert (reply.author, text_of(reply)) == ("app", answered)
    assert reply.timestamp >= began
    assert user.invocation_id == reply.invocation_id
    assert (user.id, reply.id) == (ID, reply_id(ID))


def test_a_reply_that_is_no_text_is_its_json():
    _, reply = turn_events(message(), "app", Outcome.processed('{"dice": [1, 6]}'), 0.5).events
    assert text_of(read(reply)) == '{"dice": [1, 6]}'


def test_a_turn_that_failed_says_so():
    _, error = turn_events(message(), 'an "app"', Outcome.failed('no "luck"'), 0.5).events
    assert (read(error).error_code, read(error).error_message) == ("TURN_FAILED", 'no "luck"')
    assert read(error).author == 'an "app"'


def test_an_app_called_user_does_not_speak_as_the_user():
    _, reply = turn_events(message(), "user", Outcome.processed("{}"), 0.5).events
    assert read(reply).author != "user"


def test_what_run_was_given_is_the_users_event():
    content = {"role": "user", "parts": [{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": "AAE="}}]}
    payload = {"newMessage": content, "stateDelta": {"a": 1, "temp:b": 2, "user:c": 3}, "customMetadata": {"k": None}}
    turn = turn_events(message("see", payload), "app", Outcome.processed("{}"), 0.5)
    user = read(turn.events[0])
    assert user.actions.state_delta == {"a": 1, "user:c": 3}
    assert user.custom_metadata == {"k": None}
    assert user.content is not None
    assert user.content.model_dump(by_alias=True, exclude_none=True, mode="json") == content
    assert turn.events[0].delta.user == {"c": 3}
    assert not turn.is_plain


@pytest.mark.parametrize("kept", [True, False])
def test_of_a_pod_that_speaks_adk_its_own_events(kept: bool):
    event = parse_event({"author": "a", "content": {"parts": [{"text": "Hi"}]}}, invocation_id="e-pods")
    exchange = AdkExchange(KEY, events=[event], kept=kept)
    turn = turn_events(message(), "app", Outcome.processed("{}"), 0.5, exchange)
    assert turn.events == (event,)
    assert (turn.user is None) == kept
    if turn.user is not None:
        assert read(turn.user).invocation_id == "e-pods"
    failed = turn_events(message(), "app", Outcome.failed("boom"), 0.5, exchange)
    assert failed.events[0] == event
    assert read(failed.events[1]).error_message == "boom"
