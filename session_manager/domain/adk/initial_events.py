"""The rule for events of a new session: they may hold a conversation, but nothing that drives an agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from session_manager.domain.errors import InvalidInput

# Calls that ADK itself makes to the user. It acts on the answers.
RESERVED = frozenset({"adk_request_credential", "adk_request_confirmation", "adk_request_input"})
PLAIN: dict[str, Any] = {
    "state_delta": {},
    "artifact_delta": {},
    "requested_auth_configs": {},
    "requested_tool_confirmations": {},
}


def check_initial(events: Iterable[dict[str, Any]]) -> None:
    """Raise InvalidInput for the first event that is not allowed. ``events`` are results of ``EVENT.validate``."""
    for number, event in enumerate(events):
        reason = _reason(event)
        if reason is not None:
            raise InvalidInput(f"event {number} of a new session must not have {reason}", "events")


def _reason(event: dict[str, Any]) -> str | None:
    if event.get("long_running_tool_ids"):
        return "ids of long-running tools"
    if {name: each for name, each in event["actions"].items() if each is not None} != PLAIN:
        return "actions"
    if RESERVED.intersection(_called(event)):
        return "calls that only ADK itself makes"
    return None


def _called(event: dict[str, Any]) -> Iterator[str | None]:
    for part in (event.get("content") or {}).get("parts") or ():
        for kind in ("function_call", "function_response"):
            yield (part.get(kind) or {}).get("name")
