"""ADK's events: parsed from clients and pods, shown to clients, and made by the front door itself.

Secrets of credentials are removed from REST answers, as ADK does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from session_manager.domain.adk.model import TEMP, AdkEvent, AdkSession, State, split_state
from session_manager.domain.adk.wire import Codec, camel, from_json

_SECRETS = [
    "password",
    "token",
    "additional_headers",
    "client_secret",
    "auth_response_uri",
    "auth_code",
    "access_token",
    "refresh_token",
    "id_token",
    "code_verifier",
    "private_key_id",
    "private_key",
    "api_key",
]
_METHODS = ["API_KEY", "HTTP", "OAUTH2", "OPEN_ID_CONNECT", "SERVICE_ACCOUNT"]
CREDENTIAL_CALL = "adk_request_credential"

INTERNAL = "__adk_internal_"
RESTORED = INTERNAL + "restored_event"
EVENT = Codec("Event")
CONTENT = Codec("Content")
PART = Codec("Part")
NewId = Callable[[], UUID | str]


def _both(names: Iterable[str]) -> frozenset[str]:
    return frozenset(spelling for name in names for spelling in (name, camel(name)))


SECRETS = _both(_SECRETS)
# Names in either case, and values (apiKey, …).
METHODS = _both(each.lower() for each in _METHODS) | frozenset(_METHODS)
METHOD = _both(["auth_type"])
CARRIERS = _both(["raw_auth_credential", "exchanged_auth_credential"])
REQUESTED = _both(["requested_auth_configs"])
CONFIG = _both(["auth_config"])
# A text without any of these words contains no secret.
_WORDS = [f'"{each}"'.encode() for each in (*METHOD, *CARRIERS, CREDENTIAL_CALL)]
_USUALLY_EMPTY = [f'"{each}"'.encode() for each in REQUESTED]


def may_hold_secrets(text: bytes) -> bool:
    """Return False if compact JSON contains no secret. The check is cheap, so that most events are never walked."""
    if any(word in text for word in _WORDS):
        return True
    return any(text.count(name) != text.count(name + b":{}") for name in _USUALLY_EMPTY)


def redacted(value: Any) -> Any:
    """Return a JSON value without the secrets of its credentials."""
    if isinstance(value, list):
        return [redacted(each) if isinstance(each, dict | list) else each for each in value]
    if not isinstance(value, dict):
        return value
    if any(isinstance(value.get(name), str) and value[name] in METHODS for name in METHOD):
        return _stripped(value)
    if value.get("name") == CREDENTIAL_CALL:
        return {name: _of_call(name, each) for name, each in value.items()}
    inside = REQUESTED if value.keys() & REQUESTED else CARRIERS
    return {name: _stripped(each) if name in inside else redacted(each) for name, each in value.items()}


def _of_call(name: str, value: Any) -> Any:
    if name == "args" and isinstance(value, dict):
        return {key: _stripped(each) if key in CONFIG else each for key, each in value.items()}
    return _stripped(value) if name == "response" else redacted(value)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items() if name not in SECRETS}
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value


def parse_event(value: Any, now: float, new_id: NewId, *, invocation_id: str = "") -> AdkEvent:
    """Return a client's event, in either spelling, as it is stored. See ``stored_event`` for the parameters.

    Raises wire.ValidationError if ADK could not read it.
    """
    return stored_event(EVENT.validate(value), now, new_id, invocation_id=invocation_id)


def stored_event(
    checked: dict[str, Any],
    now: float,
    new_id: NewId,
    *,
    invocation_id: str = "",
    restored: bool = False,
    internal: bool = False,
) -> AdkEvent:
    """Return a result of ``EVENT.validate`` as it is stored.

    ``now`` (Unix seconds), ``new_id`` and ``invocation_id`` fill in what is missing. ``restored`` marks an event that
    was given when its session was created. ``internal`` keeps the internal metadata of an event from an ADK service.
    """
    event = dict(checked)
    event["id"] = event.get("id") or str(new_id())
    event["timestamp"] = event.get("timestamp", now)
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
    """Return True for a piece of a streamed reply, which is shown and not stored."""
    return bool(checked.get("partial"))


def _without_internal(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in metadata.items() if not key.startswith(INTERNAL)}


def event_json(data: str) -> bytes:
    """Return a stored event as REST shows it: in camelCase, without internal metadata and secrets of credentials."""
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
    """Return a session as REST shows it. ``temporary`` are ``temp:`` keys for the answer to their own request.

    ``stored`` shows state and events exactly as stored, with internal metadata and secrets, for other services.
    """
    key = session.key
    state = to_json({**session.state, **(temporary or {})})
    if stored:
        events = ",".join(session.events).encode()
    else:
        events = b",".join(map(_renamed, session.events))
        if may_hold_secrets(events):  # one check for all of them, since secrets are rare
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


def state_event(delta: State, now: float, new_id: NewId) -> AdkEvent:
    """Return the event for a change of state by the user, without ``temp:`` keys."""
    event = {"author": "user", "actions": {"state_delta": delta}}
    return parse_event(event, now, new_id, invocation_id=f"p-{new_id()}")
