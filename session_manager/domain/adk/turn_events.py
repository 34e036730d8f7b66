"""The ADK events of a turn that the pod does not report itself: the message and its outcome.

Their ids are derived from the message's id, so that writing them twice has no effect.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import orjson
from pydantic_core import from_json

from session_manager.domain.adk.events import EVENT, stored_event
from session_manager.domain.adk.model import AdkEvent, Delta
from session_manager.domain.message import Message, Outcome

FAILED = "TURN_FAILED"

_NO_ACTIONS = '{"state_delta":{},"artifact_delta":{},"requested_auth_configs":{},"requested_tool_confirmations":{}}'
_REST = f',"actions":{_NO_ACTIONS},"node_info":{{"path":""}},"id":"'
_NO_DELTA = Delta({}, {}, {})


def invocation_of(message: Message) -> str:
    """Return the invocation id of the turn."""
    return f"e-{message.id}"


def reply_id(message_id: str) -> str:
    """Return the id of the event that answers a message: the message's id, as a UUID of another version."""
    return f"{message_id[:14]}8{message_id[15:]}"


def message_id_of(event_id: str) -> str | None:
    """Return the id of the message whose turn would leave an event with this id, or None if no turn would."""
    if len(event_id) != 36 or event_id[14] not in "78":
        return None
    return f"{event_id[:14]}7{event_id[15:]}"


def user_event(message: Message, invocation_id: str, at: float) -> AdkEvent:
    """Return the event for the user's message. ``at`` is in Unix seconds."""
    if message.payload is not None:
        return _given(message, from_json(message.payload), invocation_id, at)
    said = f'"content":{{"parts":[{{"text":{_text(message.text)}}}],"role":"user"}}'
    return _made(said, '"user"', invocation_id, message.id, at)


def answer_event(message: Message, app: str, outcome: Outcome, at: float) -> AdkEvent:
    """Return the event for the reply or the failure. ``app`` is the author."""
    if outcome.response is None:
        return failure_event(message, app, outcome.error or "", invocation_of(message), at)
    said = f'"content":{{"parts":[{{"text":{_text(_words(outcome.response))}}}],"role":"model"}}'
    return _made(said, _author(app), invocation_of(message), reply_id(message.id), at)


def failure_event(message: Message, app: str, error: str, invocation_id: str, at: float) -> AdkEvent:
    """Return the event for a failed turn. ``app`` is the author."""
    said = f'"error_code":"{FAILED}","error_message":{_text(error)}'
    return _made(said, _author(app), invocation_id, reply_id(message.id), at)


def _given(message: Message, payload: dict[str, Any], invocation_id: str, at: float) -> AdkEvent:
    """Return the event that ADK itself would store for the body of ``/run``."""
    event = {
        "id": message.id,
        "timestamp": at,
        "author": "user",
        "content": payload.get("newMessage"),
        "actions": {"state_delta": payload.get("stateDelta") or {}},
        "custom_metadata": payload.get("customMetadata"),
    }
    return stored_event(EVENT.validate(event), at, lambda: message.id, invocation_id=invocation_id)


def _made(said: str, author: str, invocation_id: str, identity: str, at: float) -> AdkEvent:
    """Return an event, built from strings for speed: each turn has two of them."""
    data = f'{{{said},"invocation_id":"{invocation_id}","author":{author}{_REST}{identity}","timestamp":{_json(at)}}}'
    return AdkEvent(identity, invocation_id, at, data, _NO_DELTA)


@lru_cache(maxsize=1024)
def _author(app: str) -> str:
    """Return the author as JSON. Only the user may be called ``user``."""
    return _json("agent" if app == "user" else app)


def _words(response: str) -> str:
    """Return ``reply`` of a response if it is a string, or else the whole JSON."""
    try:
        value = orjson.loads(response)
    except orjson.JSONDecodeError:  # a number is out of range; the reply was accepted with it
        value = json.loads(response)
    reply = value.get("reply")
    return reply if isinstance(reply, str) else response


def _text(words: str) -> str:
    """Return a text as JSON, without NUL, which PostgreSQL cannot store in JSON."""
    return _json(words.replace("\0", "\ufffd"))


def _json(value: str | float) -> str:
    """Return JSON. For a float this takes a quarter of the time of ``repr``."""
    return orjson.dumps(value).decode()
