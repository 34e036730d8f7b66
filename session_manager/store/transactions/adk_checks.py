"""What ADK's columns can hold, checked before a statement fails: the same on both engines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn, Delta
from session_manager.domain.errors import InvalidInput

LONGEST_ID = 128
LONGEST_INVOCATION = 256
# Seconds from 1970 to the year 2242: from there on a float cannot tell one microsecond from the next, and neither would
# events have an order, nor a writer with an older copy be found out.
FARTHEST = 2.0**33


def check_key(key: AdkKey) -> None:
    """InvalidInput, with the field, for what is too long."""
    for field, value in zip(("app_name", "user_id", "session_id"), key, strict=True):
        _check_length(field, value, LONGEST_ID)


def check_events(events: Iterable[AdkEvent]) -> None:
    for event in events:
        _check_length("id", event.id, LONGEST_ID)
        _check_length("invocation_id", event.invocation_id, LONGEST_INVOCATION)
        if not abs(event.timestamp) < FARTHEST:  # nor where it is NaN
            raise InvalidInput("timestamp is no time in seconds since 1970", field="timestamp")


def storable(turn: AdkTurn) -> AdkTurn:
    """The turn without the characters that no database holds; what is in the way otherwise is left as it is."""
    return AdkTurn(turn.user and _storable(turn.user), tuple(_storable(event) for event in turn.events))


def _storable(event: AdkEvent) -> AdkEvent:
    delta = Delta(*(_clean(part) for part in event.delta))
    try:
        return event._replace(data=json.dumps(_clean(json.loads(event.data))), delta=delta)
    except ValueError:
        return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _check_length(field: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise InvalidInput(f"{field} is longer than {longest} characters", field=field)
    if "\0" in value:
        raise InvalidInput(f"{field} holds a NUL character", field=field)
