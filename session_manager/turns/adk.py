"""What a turn leaves in its session as ADK reads it: what the user said, and what came of it.

A pod that speaks ADK says so itself, in its events.  For any other the front door writes two: the message, and the
text of the reply.  That is on the path of every turn, so their JSON is put together from strings.

Ids come from that of the message, so that what is recorded twice is known.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import orjson
from pydantic_core import from_json

from session_manager.domain.adk.events import parse_event
from session_manager.domain.adk.model import AdkEvent, AdkTurn, Delta
from session_manager.domain.message import Message, Outcome
from session_manager.pods.protocol import AdkExchange

FAILED = "TURN_FAILED"

_NO_ACTIONS = '{"state_delta":{},"artifact_delta":{},"requested_auth_configs":{},"requested_tool_confirmations":{}}'
_REST = f',"actions":{_NO_ACTIONS},"node_info":{{"path":""}},"id":"'
_NO_DELTA = Delta({}, {}, {})


def turn_events(
    message: Message, app: str, outcome: Outcome, began: float, exchange: AdkExchange | None = None
) -> AdkTurn:
    """``app`` is who answers. ``began``: when the turn did, Unix seconds. ``exchange``: of a pod that speaks ADK."""
    if exchange is None:
        # Nothing depends on what the pod did, so that recording them takes one statement.
        return AdkTurn(None, (_user(message, f"e-{message.id}", began), _answer(message, app, outcome)))
    events = tuple(exchange.events)
    invocation_id = events[0].invocation_id if events else f"e-{message.id}"
    if outcome.error is not None:
        events = (*events, _failure(message, app, outcome.error, invocation_id))
    return AdkTurn(None if exchange.kept else _user(message, invocation_id, began), events)


def reply_id(message_id: str) -> str:
    """The id of the event that answers a message: its own, as a UUID of another version."""
    return f"{message_id[:14]}8{message_id[15:]}"


def _user(message: Message, invocation_id: str, at: float) -> AdkEvent:
    if message.payload is not None:
        return _given(message, from_json(message.payload), invocation_id, at)
    return _made(
        f'"content":{{"parts":[{{"text":{_json(message.text)}}}],"role":"user"}}',
        '"user"',
        invocation_id,
        message.id,
        at,
    )


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


def _answer(message: Message, app: str, outcome: Outcome) -> AdkEvent:
    invocation_id = f"e-{message.id}"
    if outcome.response is None:
        return _failure(message, app, outcome.error or "", invocation_id)
    said = f'"content":{{"parts":[{{"text":{_json(_words(outcome.response))}}}],"role":"model"}}'
    return _made(said, _author(app), invocation_id, reply_id(message.id), time.time())


def _failure(message: Message, app: str, error: str, invocation_id: str) -> AdkEvent:
    said = f'"error_code":"{FAILED}","error_message":{_json(error)}'
    return _made(said, _author(app), invocation_id, reply_id(message.id), time.time())


def _made(said: str, author: str, invocation_id: str, identity: str, at: float) -> AdkEvent:
    data = f'{{{said},"invocation_id":"{invocation_id}","author":{author}{_REST}{identity}","timestamp":{_json(at)}}}'
    return AdkEvent(identity, invocation_id, at, data, _NO_DELTA)


@lru_cache(maxsize=1024)
def _author(app: str) -> str:
    """As JSON. Whose events are the user's goes by that name."""
    return _json("agent" if app == "user" else app)


def _words(response: str) -> str:
    """The text of a reply: its ``reply`` where that is one, else all of its JSON."""
    reply = orjson.loads(response).get("reply")
    return reply.replace("\0", "\ufffd") if isinstance(reply, str) else response


def _json(value: str | float) -> str:
    """Of a float a fourth of the time that ``repr`` takes."""
    return orjson.dumps(value).decode()
