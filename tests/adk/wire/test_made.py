"""What the front door makes, marks, leaves out and refuses."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import pytest
from google.adk.auth.auth_credential import _redact_credential_secrets
from google.adk.events._internal_metadata import RESTORED_EVENT_KEY, mark_restored
from google.adk.events.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from session_manager.domain.adk import events, wire
from session_manager.domain.adk.events import may_hold_secrets, redacted
from session_manager.domain.adk.limits import check_initial
from session_manager.domain.errors import InvalidInput


def read(event) -> Event:
    return Event.model_validate_json(event.data)


def test_what_has_no_name_gets_one():
    before = time.time()
    first = events.parse_event({}, time.time(), uuid4)
    second = events.parse_event({"id": "", "invocationId": ""}, time.time(), uuid4, invocation_id="e-1")
    assert first.id
    assert first.id != second.id
    assert before <= first.timestamp <= time.time()
    assert (first.invocation_id, second.invocation_id) == ("", "e-1")
    for event in (first, second):
        stored = read(event)
        assert (stored.id, stored.invocation_id, stored.timestamp) == event[:3]


def test_state_is_split_and_temporary_state_is_not_kept():
    event = events.parse_event(
        {"actions": {"stateDelta": {"a": None, "temp:b": 1, "app:c": 2, "user:d": {"e_f": 3}, "app:": 4}}},
        time.time(),
        uuid4,
    )
    assert event.delta == ({"c": 2, "": 4}, {"d": {"e_f": 3}}, {"a": None})
    assert read(event).actions.state_delta == {"a": None, "app:c": 2, "user:d": {"e_f": 3}, "app:": 4}


def test_internal_metadata():
    value = {"customMetadata": {RESTORED_EVENT_KEY: True, "mine": None}}
    assert read(events.parse_event(value, time.time(), uuid4)).custom_metadata == {"mine": None}
    checked = events.EVENT.validate(value)
    assert (
        read(events.stored_event(checked, time.time(), uuid4, internal=True)).custom_metadata == value["customMetadata"]
    )
    for given_ in (value, {}):
        checked = events.EVENT.validate(given_ | {"id": "e", "timestamp": 1})
        restored = events.stored_event(checked, time.time(), uuid4, restored=True)
        assert read(restored) == mark_restored(Event.model_validate(given_ | {"id": "e", "timestamp": 1}))
        shown = json.loads(events.event_json(restored.data))
        assert shown.get("customMetadata") == ({"mine": None} if given_ else None)


def test_a_change_of_state():
    change = events.state_event({"a": 1, "temp:b": 2}, time.time(), uuid4)
    assert (read(change).author, read(change).actions.state_delta) == ("user", {"a": 1})
    assert change.invocation_id.startswith("p-")


@pytest.mark.filterwarnings("ignore:This method is deprecated")  # ADK's own, in making a key for the credential
@pytest.mark.parametrize(
    "auth",
    [
        {"authScheme": {"type": "apiKey", "in": "header", "name": "k"}},
        {"auth_scheme": {"type": "custom", "anything": {"a_b": None}}, "credential_key": "k", "more_and": {"x_y": 1}},
        {"authScheme": {"type": "http"}, "rawAuthCredential": {"authType": "http", "http": None, "resource_ref": "r"}},
    ],
)
def test_a_requested_credential_is_read_again(auth):
    stored = events.parse_event({"actions": {"requestedAuthConfigs": {"call": auth}}}, time.time(), uuid4)
    config = read(stored).actions.requested_auth_configs["call"]
    scheme = (auth.get("authScheme") or auth.get("auth_scheme"))["type"]
    assert getattr(config.auth_scheme.type_, "value", config.auth_scheme.type_) == scheme


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"authScheme": {}},
        {"authScheme": {"type": "x"}, "rawAuthCredential": {"authType": "none of these"}},
        {"authScheme": {"type": "x"}, "rawAuthCredential": {"authType": "http", "serviceAccount": {}}},
    ],
)
def test_a_credential_that_could_not_be_read_is_refused(auth):
    with pytest.raises(wire.ValidationError):
        events.parse_event({"actions": {"requestedAuthConfigs": {"call": auth}}}, time.time(), uuid4)


METHODS = ["apiKey", "api_key", "API_KEY", "oauth2", "OAUTH2"]
CARRIERS = ["rawAuthCredential", "exchanged_auth_credential", "requestedAuthConfigs", "requested_auth_configs"]
CALLS = ["name", "adk_request_credential", "args", "response", "authConfig"]
WORDS = st.sampled_from([*METHODS, *CARRIERS, *CALLS, "authType", "auth_type", "clientSecret", "token", "other"])
VALUES = st.recursive(
    WORDS | st.none() | st.just(1),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES)
@settings(max_examples=300, deadline=None, database=None)
def test_secrets_are_taken_out_as_adk_does(value):
    expected = _redact_credential_secrets(value)
    assert redacted(value) == expected
    if expected != value:
        assert may_hold_secrets(json.dumps(value, separators=(",", ":")).encode())


def checked(**fields: Any) -> list[dict[str, Any]]:
    return [events.EVENT.validate({}), events.EVENT.validate(fields)]


def test_what_a_new_session_may_begin_with():
    call = {"functionCall": {"name": "look"}}
    answer = {"functionResponse": {"name": "look", "response": {}}}
    check_initial(checked(content={"parts": [{"text": "x"}, call, answer]}, actions={"stateDelta": {}}, output=1))
    refused: tuple[dict[str, Any], ...] = (
        {"longRunningToolIds": ["x"]},
        {"actions": {"transferToAgent": "x"}},
        {"actions": {"agentState": {}}},
        {"content": {"parts": [{"functionCall": {"name": "adk_request_confirmation"}}]}},
    )
    for fields in refused:
        with pytest.raises(InvalidInput, match="event 1"):
            check_initial(checked(**fields))
