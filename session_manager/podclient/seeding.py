"""A session as an ADK server takes it when it is made there: our state and history, without what it refuses.

``POST …/sessions`` takes no event with actions, long-running tools, or calls that ADK itself makes to ask a person.
The state says what the actions did, rewound invocations are left out, and such calls have ended: who continues one
needs a pod that keeps its sessions here.
"""

from __future__ import annotations

import json
from typing import Any

from session_manager.domain.adk.model import AdkSession

Json = dict[str, Any]

_ASKED_BY_ADK = frozenset({"adk_request_credential", "adk_request_confirmation", "adk_request_input"})
_REFUSED = frozenset({"actions", "long_running_tool_ids"})


MAX_HISTORY = 64 * 1024 * 1024  # characters; of a longer one the pod is given the end


def seed(session: AdkSession) -> bytes:
    """The body of the request that makes the session."""
    events = [json.loads(data) for data in _last(session.events)]
    told = [event for event in map(_told, _after_rewinds(events)) if event is not None]
    return json.dumps({"sessionId": session.key.id, "state": session.state, "events": told}).encode()


def _last(events: list[str]) -> list[str]:
    size = 0
    for at in range(len(events) - 1, -1, -1):
        size += len(events[at])
        if size > MAX_HISTORY:
            return events[at + 1 :]
    return events


def _after_rewinds(events: list[Json]) -> list[Json]:
    """What a reader of the session sees: a rewind takes back its invocation and all after it."""
    kept: list[Json] = []
    for event in events:
        rewound = (event.get("actions") or {}).get("rewind_before_invocation_id")
        if not rewound:
            kept.append(event)
            continue
        first = next((at for at, each in enumerate(kept) if each.get("invocation_id") == rewound), len(kept))
        del kept[first:]
    return kept


def _told(event: Json) -> Json | None:
    """The event as far as it may be given; None when nothing is left of it."""
    content = event.get("content") or {}
    parts = [part for part in content.get("parts") or () if not _asked(part)]
    if not parts:
        return None
    rest = {name: value for name, value in event.items() if name not in _REFUSED}
    return {**rest, "content": {**content, "parts": parts}}


def _asked(part: Json) -> bool:
    calls = (part.get(name) or {} for name in ("function_call", "function_response"))
    return any(call.get("name") in _ASKED_BY_ADK for call in calls)
