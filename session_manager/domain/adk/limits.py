"""The limits of ADK's columns. They are checked before a statement fails, so that both engines agree."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn, Delta
from session_manager.domain.errors import InvalidInput

LONGEST_ID = 128
LONGEST_INVOCATION = 256
# Seconds from 1970 to the year 2242. Beyond it a float cannot distinguish two microseconds: events would have no order,
# and a writer with an older copy would not be detected.
FARTHEST = 2.0**33


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
