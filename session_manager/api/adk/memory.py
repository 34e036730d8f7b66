"""The memory of a user's sessions, which ADK's route fills and ours searches, and the user's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Response
from pydantic_core import from_json, to_json

from session_manager.api.adk.access import User
from session_manager.api.adk.bodies import UpdateMemory
from session_manager.api.adk.listing import Stored
from session_manager.api.call import CurrentCall
from session_manager.api.errors import JSON
from session_manager.domain.adk.events import event_json, redacted
from session_manager.domain.values import Json


async def patch_memory(call: CurrentCall, user: User, body: UpdateMemory) -> None:
    """The session's events so far become part of what is searched as its user's memory."""
    await call.services.store.remember(user.key(body.session_id))


async def search_memory(
    call: CurrentCall, user: User, query: Annotated[str, Query()], limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """Beyond ADK: remembered events with a word of the query in their text, newest first."""
    found = await call.services.store.search_memory(user.app, user.id, query.replace("\0", " "), limit)
    memories = [_entry(from_json(event_json(each))) for each in found]
    return Response(to_json({"memories": memories}), media_type=JSON)


async def get_user_state(call: CurrentCall, user: User, stored: Stored = False) -> Json:
    """Beyond ADK: the state that all sessions of the user in this app share, keys without their prefix."""
    state = await call.services.store.adk_user_state(user.app, user.id)
    return state if stored and call.caller.trusted else {key: redacted(each) for key, each in state.items()}


def _entry(event: Json) -> Json:
    """Return the event as a memory entry of ADK, with the names of its class."""
    return {
        "id": event["id"],
        "author": event["author"],
        "timestamp": datetime.fromtimestamp(event["timestamp"], UTC).isoformat(),
        "content": event.get("content"),
        "custom_metadata": event.get("customMetadata") or {},
    }
