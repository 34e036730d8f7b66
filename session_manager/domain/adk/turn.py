"""What a turn leaves in its session as ADK reads it, where the pod does not say so itself: the message and its outcome.

Ids come from that of the message, so that what is told twice is known.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import orjson
from pydantic_core import from_json

from session_manager.domain.adk.events import parse_event
from session_manager.domain.adk.model import AdkEvent, Delta
from session_manager.domain.message import Message, Outcome

FAILED = "TURN_FAILED"

_NO_ACTIONS = '{"state_delta":{},"artifact_delta":{},"requested_auth_configs":{},"requested_tool_confirmations":{}}'
_REST = f',"actions":{_NO_ACTIONS},"node_info":{{"path":""}},"id":"'
_NO_DELTA = Delta({}, {}, {})


def invocation_of(message: Message) -> str:
    return f"e-{message.id}"


def reply_id(message_id: str) -> str:
    """The id of the event that answers a message: its own, as a UUID of another version."""
    return f"{message_id[:14]}8{message_id[15:]}"


def message_of(event_id: str) -> str | None:
    """The id of the message that an event of this id would tell of; None where it would of none."""
    if len(event_id) != 36 or event_id[14] not in "78":
        return None
    return f"{event_id[:14]}7{event_id[15:]}"


def user_event(message: Message, invocation_id: str, at: float) -> AdkEvent:
    """What the user said, at that time in Unix seconds."""
    if message.payload is not None:
        return _given(message, from_json(message.payload), invocation_id, at)
    said = f'"content":{{"parts":[{{"text":{_text(message.text)}}}],"role":"user"}}'
    return _made(said, '"user"', invocation_id, message.id, at)


def answer_event(message: Message, app: str, outcome: Outcome, at: float) -> AdkEvent:
    """The reply, or why there is none. ``app`` is who answers."""
    if outcome.response is None:
        return failure_event(message, app, outcome.error or "", invocation_of(message), at)
    said = f'"content":{{"parts":[{{"text":{_text(_words(outcome.response))}}}],"role":"model"}}'
    return _made(said, _author(app), invocation_of(message), reply_id(message.id), at)


def failure_event(message: Message, app: str, error: str, invocation_id: str, at: float) -> AdkEvent:
    said = f'"error_code":"{FAILED}","error_message":{_text(error)}'
    return _made(said, _author(app), invocation_id, reply_id(message.id), at)


def _given(message: Message, payload: dict[str, Any], invocation_id: str, at: float) -> AdkEvent:
    """What ``/run`` was given, as ADK itself would store it."""
    event = {
        "id": message.id,
        "timestamp": at,
        "author": "user",
        "content": payload.get("newMessage"),
        "actions": {"state_delta": payload.get("stateDelta") or {}},
        "custom_metadata": payload.get("customMetadata"),
    }
    return parse_event(event, invocation_id=invocation_id)


def _made(said: str, author: str, invocation_id: str, identity: str, at: float) -> AdkEvent:
    """From strings, because every turn has two."""
    data = f'{{{said},"invocation_id":"{invocation_id}","author":{author}{_REST}{identity}","timestamp":{_json(at)}}}'
    return AdkEvent(identity, invocation_id, at, data, _NO_DELTA)


@lru_cache(maxsize=1024)
def _author(app: str) -> str:
    """As JSON. Whose events are the user's goes by that name."""
    return _json("agent" if app == "user" else app)


def _words(response: str) -> str:
    """The text of a reply: its ``reply`` where that is one, else all of its JSON."""
    try:
        value = orjson.loads(response)
    except orjson.JSONDecodeError:  # of a number out of all bounds, with which the reply was taken
        value = json.loads(response)
    reply = value.get("reply")
    return reply if isinstance(reply, str) else response


def _text(words: str) -> str:
    """As JSON, without the character that PostgreSQL cannot hold in it."""
    return _json(words.replace("\0", "\ufffd"))


def _json(value: str | float) -> str:
    """Of a float a fourth of the time that ``repr`` takes."""
    return orjson.dumps(value).decode()
