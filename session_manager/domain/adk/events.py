"""ADK's events: read from what a client or a pod sends, shown to clients, and made by the front door itself."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

from session_manager.domain.adk.model import TEMP, AdkEvent, AdkSession, State, split_state
from session_manager.domain.adk.redaction import may_hold_secrets, redacted
from session_manager.domain.adk.wire import Codec, from_json

INTERNAL = "__adk_internal_"
RESTORED = INTERNAL + "restored_event"
EVENT = Codec("Event")
CONTENT = Codec("Content")
PART = Codec("Part")


def parse_event(value: Any, *, invocation_id: str = "") -> AdkEvent:
    """A client's event, in either spelling, as it is to be stored. wire.ValidationError where ADK could not read it.

    ``invocation_id`` is given to one that has none.
    """
    return stored_event(EVENT.validate(value), invocation_id=invocation_id)


def stored_event(
    checked: dict[str, Any], *, invocation_id: str = "", restored: bool = False, internal: bool = False
) -> AdkEvent:
    """``checked``: what ``EVENT.validate`` returned. ``restored``: mark it as one that was given at the creation.

    ``internal``: it comes from a service of ADK's, whose own metadata is kept.
    """
    event = dict(checked)
    event["id"] = event.get("id") or str(uuid4())
    event["timestamp"] = event.get("timestamp", time.time())
    event["invocation_id"] = event.get("invocation_id") or invocation_id
    if event.get("custom_metadata") is not None or restored:
        metadata = event.get("custom_metadata") or {}
        metadata = metadata if internal else _without_internal(metadata)
        event["custom_metadata"] = {**metadata, RESTORED: True} if restored else metadata
    delta = {key: each for key, each in event["actions"]["state_delta"].items() if not key.startswith(TEMP)}
    event["actions"] = {**event["actions"], "state_delta": delta}
    data = EVENT.stored(event)
    return AdkEvent(event["id"], event["invocation_id"], event["timestamp"], data, split_state(delta))


def is_partial(checked: dict[str, Any]) -> bool:
    """A piece of a streamed reply, which is shown and not kept."""
    return bool(checked.get("partial"))


def _without_internal(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in metadata.items() if not key.startswith(INTERNAL)}


def event_json(data: str) -> bytes:
    """A stored event as REST shows it: camelCase, without internal metadata and without secrets of credentials."""
    return _without_secrets(_renamed(data))


def _renamed(data: str) -> bytes:
    event = from_json(data)
    metadata = event.get("custom_metadata")
    if metadata and INTERNAL in data:
        event["custom_metadata"] = _without_internal(metadata) or None
    return EVENT.rest(event)


def _without_secrets(shown: bytes) -> bytes:
    return to_json(redacted(from_json(shown))) if may_hold_secrets(shown) else shown


def session_json(session: AdkSession, temporary: State | None = None, *, stored: bool = False) -> bytes:
    """A session as REST shows it. ``temporary``: ``temp:`` keys, which only the answer to their own request shows.

    ``stored``: state and events are those that are kept, with internal metadata and secrets: for other services.
    """
    key = session.key
    state = to_json({**session.state, **(temporary or {})})
    if stored:
        events = ",".join(session.events).encode()
    else:
        events = b",".join(map(_renamed, session.events))
        if may_hold_secrets(events):  # one look at all of them: there hardly ever are any
            events = b",".join(map(event_json, session.events))
        state = _without_secrets(state)
    return b'{"id":%b,"appName":%b,"userId":%b,"state":%b,"events":[%b],"lastUpdateTime":%b}' % (
        to_json(key.id),
        to_json(key.app),
        to_json(key.user_id),
        state,
        events,
        to_json(session.update_time),
    )


def state_event(delta: State, *, invocation_id: str | None = None) -> AdkEvent:
    """A change of state by the user; ``temp:`` keys of ``delta`` are left out."""
    return made({"author": "user", "actions": {"state_delta": delta}}, invocation_id or f"p-{uuid4()}")


def made(value: dict[str, Any], invocation_id: str | None = None) -> AdkEvent:
    """An event of the front door's own. Without an invocation id it begins an invocation."""
    return parse_event(value, invocation_id=invocation_id or f"e-{uuid4()}")
