"""What a user's sessions were about: remembered by ADK's route, searched beyond it; and the user's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic_core import from_json, to_json

from session_manager.api.adk.access import Access, counted
from session_manager.api.adk.bodies import Route, UpdateMemory
from session_manager.api.adk.queries import Stored
from session_manager.api.adk.sessions import JSON
from session_manager.api.limits import RouteLimits
from session_manager.domain.adk.events import event_json
from session_manager.domain.adk.redaction import redacted
from session_manager.wiring.services import Services

USER = "/apps/{app_name}/users/{user_id}"


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["users"], route_class=Route)

    @routes.patch(USER + "/memory", dependencies=counted(limits.change))
    async def patch_memory(access: Access, body: UpdateMemory) -> None:
        """The session's events so far become part of what is searched as its user's memory."""
        await services.store.remember(access.key(body.session_id))

    @routes.get(USER + "/memory", dependencies=counted(limits.read))
    async def search_memory(
        access: Access, query: Annotated[str, Query()], limit: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Response:
        """Beyond ADK: remembered events with a word of the query in their text, newest first."""
        found: list[str] = []
        if access.known:
            found = await services.store.search_memory(access.app, access.user_id, query.replace("\0", " "), limit)
        memories = [_entry(from_json(event_json(each))) for each in found]
        return Response(to_json({"memories": memories}), media_type=JSON)

    @routes.get(USER + "/state", dependencies=counted(limits.read))
    async def get_user_state(access: Access, stored: Stored = False) -> dict[str, Any]:
        """Beyond ADK: the state that all sessions of the user in this app share, keys without their prefix."""
        if not access.known:
            return {}
        state = await services.store.adk_user_state(access.app, access.user_id)
        return state if stored and access.service else {key: redacted(each) for key, each in state.items()}

    return routes


def _entry(event: dict[str, Any]) -> dict[str, Any]:
    """An event as a memory entry of ADK, whose names are those of its class."""
    return {
        "id": event["id"],
        "author": event["author"],
        "timestamp": datetime.fromtimestamp(event["timestamp"], UTC).isoformat(),
        "content": event.get("content"),
        "custom_metadata": event.get("customMetadata") or {},
    }
