"""The limits of what is stored in ADK's columns, and the times of events.

Limits are checked before a statement fails, so that both engines agree. Events are sorted by the times under which they
are stored; their data is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn, Delta
from session_manager.domain.errors import InvalidInput
from session_manager.domain.times import SECOND, micros
from session_manager.domain.values import LONGEST_ID

LONGEST_INVOCATION = 256
# Seconds from 1970 to the year 2242. Beyond it a float cannot distinguish two microseconds: events would have no order,
# and a writer with an older copy would not be detected.
FARTHEST = 2.0**33

TICK: Final = 1 / SECOND  # seconds; the smallest step of a session's update time, which PostgreSQL can distinguish

Placed = Sequence[tuple[AdkEvent, float]]
"""Events with the times in Unix seconds under which they are stored."""

# Calls that ADK itself makes to the user. It acts on the answers.
RESERVED = frozenset({"adk_request_credential", "adk_request_confirmation", "adk_request_input"})
PLAIN: dict[str, Any] = {
    "state_delta": {},
    "artifact_delta": {},
    "requested_auth_configs": {},
    "requested_tool_confirmations": {},
}


def check_key(key: AdkKey) -> None:
    """Raise InvalidInput, with the field, if a part of the key does not fit."""
    for field, value in zip(("app_name", "user_id", "session_id"), key, strict=True):
        _check_length(field, value, LONGEST_ID)


def check_events(events: Iterable[AdkEvent]) -> None:
    """Raise InvalidInput, with the field, if an event does not fit."""
    for event in events:
        _check_length("id", event.id, LONGEST_ID)
        _check_length("invocation_id", event.invocation_id, LONGEST_INVOCATION)
        if not abs(event.timestamp) < FARTHEST:  # also true for NaN
            raise InvalidInput("timestamp is not a valid time in seconds since 1970", field="timestamp")


def cleaned_turn(turn: AdkTurn) -> AdkTurn:
    """Return the turn without the characters that no database stores. Other problems are left as they are."""
    return AdkTurn(turn.user and _cleaned_event(turn.user), tuple(_cleaned_event(event) for event in turn.events))


def _cleaned_event(event: AdkEvent) -> AdkEvent:
    delta = Delta(*(_cleaned(part) for part in event.delta))
    try:
        return event._replace(data=json.dumps(_cleaned(json.loads(event.data))), delta=delta)
    except ValueError:
        return event


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value


def _check_length(field: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise InvalidInput(f"{field} is longer than {longest} characters", field=field)
    if "\0" in value:
        raise InvalidInput(f"{field} contains a NUL character", field=field)


def later(at: float, updated: float) -> float:
    """Return ``at``, or the first microsecond after ``updated`` if that is later."""
    return at if at >= updated + TICK else (micros(updated) + 1) / SECOND


def placed_after(updated: float, events: Iterable[AdkEvent]) -> Placed:
    """Return the events with times that keep their order and sort after everything stored at ``updated``."""
    placed = []
    for event in events:
        updated = later(event.timestamp, updated)
        placed.append((event, updated))
    return placed


def apart(events: Iterable[AdkEvent]) -> Placed:
    """Return the events with their own times, moved only if an event has the time of the one before."""
    placed, last, stamp = [], 0.0, None
    for event in events:
        same = micros(event.timestamp) == stamp
        last, stamp = later(last, last) if same else event.timestamp, micros(event.timestamp)
        placed.append((event, last))
    return placed


def check_initial(events: Iterable[dict[str, Any]]) -> None:
    """Raise InvalidInput for the first event of a new session that drives an agent instead of telling a conversation.

    ``events`` are results of ``EVENT.validate``.
    """
    for number, event in enumerate(events):
        reason = _reason(event)
        if reason is not None:
            raise InvalidInput(f"event {number} of a new session must not have {reason}", "events")


def _reason(event: dict[str, Any]) -> str | None:
    if event.get("long_running_tool_ids"):
        return "ids of long-running tools"
    if {name: each for name, each in event["actions"].items() if each is not None} != PLAIN:
        return "actions"
    parts = (event.get("content") or {}).get("parts") or ()
    called = {(part.get(kind) or {}).get("name") for part in parts for kind in ("function_call", "function_response")}
    if RESERVED & called:
        return "calls that only ADK itself makes"
    return None
