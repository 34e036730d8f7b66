"""The request that creates a session on an ADK server: our state and history, without what ADK rejects.

``POST …/sessions`` rejects events with actions, long-running tools, or calls by which ADK itself asks a person.  The
state holds what the actions did, rewound invocations are left out, and such calls have ended: to continue one, the pod
has to keep its sessions here.
"""

from __future__ import annotations

import json

from session_manager.domain.adk.model import AdkSession
from session_manager.domain.values import Json

_ASKED_BY_ADK = frozenset({"adk_request_credential", "adk_request_confirmation", "adk_request_input"})
_REJECTED = frozenset({"actions", "long_running_tool_ids"})

MAX_HISTORY = 64 * 1024 * 1024  # characters; the pod gets the end of a longer history


def seed(session: AdkSession) -> bytes:
    """Return the body of the request that creates the session."""
    events = [json.loads(data) for data in _last(session.events)]
    accepted = [event for event in map(_acceptable, _after_rewinds(events)) if event is not None]
    return json.dumps({"sessionId": session.key.id, "state": session.state, "events": accepted}).encode()


def _last(events: list[str]) -> list[str]:
    size = 0
    for at in range(len(events) - 1, -1, -1):
        size += len(events[at])
        if size > MAX_HISTORY:
            return events[at + 1 :]
    return events


def _after_rewinds(events: list[Json]) -> list[Json]:
    """Return the events that a reader of the session sees: a rewind undoes its invocation and all later ones."""
    kept: list[Json] = []
    for event in events:
        rewound = (event.get("actions") or {}).get("rewind_before_invocation_id")
        if not rewound:
            kept.append(event)
            continue
        first = next((at for at, each in enumerate(kept) if each.get("invocation_id") == rewound), len(kept))
        del kept[first:]
    return kept


def _acceptable(event: Json) -> Json | None:
    """Return the part of the event that ADK accepts, or None if nothing is left of it."""
    content = event.get("content") or {}
    parts = [part for part in content.get("parts") or () if not _asked(part)]
    if not parts:
        return None
    rest = {name: value for name, value in event.items() if name not in _REJECTED}
    return {**rest, "content": {**content, "parts": parts}}


def _asked(part: Json) -> bool:
    calls = (part.get(name) or {} for name in ("function_call", "function_response"))
    return any(call.get("name") in _ASKED_BY_ADK for call in calls)
