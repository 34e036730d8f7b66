"""What is told of a turn is what ADK itself would have written."""

from __future__ import annotations

import json
from typing import Any

from google.adk.events.event import Event
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain.adk.model import AdkEvent
from session_manager.domain.adk.turn_events import answer_event, reply_id, user_event
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros

ID = "01a1fe32-927a-79a2-8a12-9a85cc0c4483"
STORABLE = st.text(st.characters(codec="utf-8"))


def message(text: str = "Hello", payload: dict[str, Any] | None = None) -> Message:
    given = None if payload is None else json.dumps(payload)
    return Message(ID, "uuid", 1, text, Micros(0), 1, 0, payload=given)


def answer(outcome: Outcome, app: str = "app") -> Event:
    return read(answer_event(message(), app, outcome, 0.5))


def read(event: AdkEvent) -> Event:
    """As google-adk reads it; its own words for it are the same."""
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
    user = read(user_event(message(said), "e-1", 1.25))
    reply = answer(Outcome.processed(json.dumps({"reply": answered})))
    assert (user.author, text_of(user), user.timestamp) == ("user", said.replace("\0", "\ufffd"), 1.25)
    assert (reply.author, text_of(reply), reply.timestamp) == ("app", answered.replace("\0", "\ufffd"), 0.5)
    assert (user.id, reply.id) == (ID, reply_id(ID))
    assert (user.invocation_id, reply.invocation_id) == ("e-1", f"e-{ID}")


def test_a_reply_that_is_no_text_is_its_json():
    assert text_of(answer(Outcome.processed('{"dice": [1, 6]}'))) == '{"dice": [1, 6]}'


def test_a_reply_with_a_number_out_of_all_bounds():
    assert text_of(answer(Outcome.processed('{"reply": "yes", "n": %s}' % ("9" * 400)))) == "yes"


def test_a_turn_that_failed_says_so():
    error = answer(Outcome.failed('no "luck"'), 'an "app"')
    assert (error.error_code, error.error_message, error.author) == ("TURN_FAILED", 'no "luck"', 'an "app"')


def test_an_app_called_user_does_not_speak_as_the_user():
    assert answer(Outcome.processed("{}"), "user").author != "user"


def test_what_run_was_given_is_the_users_event():
    content = {"role": "user", "parts": [{"text": "see"}, {"inlineData": {"mimeType": "image/png", "data": "AAE="}}]}
    payload = {"newMessage": content, "stateDelta": {"a": 1, "temp:b": 2, "user:c": 3}, "customMetadata": {"k": None}}
    event = user_event(message("see", payload), "e-1", 0.5)
    user = read(event)
    assert user.actions.state_delta == {"a": 1, "user:c": 3}
    assert user.custom_metadata == {"k": None}
    assert user.content is not None
    assert user.content.model_dump(by_alias=True, exclude_none=True, mode="json") == content
    assert event.delta.user == {"c": 3}
