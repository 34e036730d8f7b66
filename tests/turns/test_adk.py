"""The events that the turn of a pod that speaks ADK leaves: the pod's own, and those that it did not send."""

from __future__ import annotations

from uuid import uuid4

import pytest
from google.adk.events.event import Event

from session_manager.domain.adk.events import parse_event
from session_manager.domain.adk.model import AdkEvent, AdkKey
from session_manager.domain.adk.turn_events import reply_id
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros
from session_manager.podclient.protocol import AdkExchange
from session_manager.turns.adk import turn_events

ID = "01a1fe32-927a-79a2-8a12-9a85cc0c4483"
KEY = AdkKey("app", "ada", "s")
MESSAGE = Message(ID, "uuid", 1, "Hello", Micros(0), 1, 0)


def read(event: AdkEvent | None) -> Event:
    assert event is not None
    return Event.model_validate_json(event.data)


@pytest.mark.parametrize("kept", [True, False])
def test_events_of_the_pod_and_of_its_failure(kept: bool):
    event = parse_event({"author": "a", "content": {"parts": [{"text": "Hi"}]}}, 1e9, uuid4, invocation_id="e-pods")
    exchange = AdkExchange(KEY, events=[event], kept=kept)
    turn = turn_events(MESSAGE, "app", Outcome.processed("{}"), 0.5, exchange)
    assert turn.events == (event,)
    assert (turn.user is None) == kept
    if turn.user is not None:
        assert read(turn.user).invocation_id == "e-pods"
    failed = turn_events(MESSAGE, "app", Outcome.failed("boom"), 0.5, exchange)
    assert failed.events[0] == event
    assert read(failed.events[1]).error_message == "boom"
    assert failed.events[1].id == reply_id(ID)


def test_a_pod_that_sent_no_event():
    turn = turn_events(MESSAGE, "app", Outcome.failed("boom"), 0.5, AdkExchange(KEY))
    assert read(turn.user).invocation_id == read(turn.events[0]).invocation_id == f"e-{ID}"
