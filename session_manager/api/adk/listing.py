"""ADK's list of sessions: a bare array, so the cursor of the next page is in headers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Response
from pydantic import BaseModel, Field

from session_manager.api import cursors
from session_manager.api.call import Call
from session_manager.api.errors import JSON
from session_manager.domain.adk.events import session_json
from session_manager.domain.adk.model import AdkSession
from session_manager.store.protocol import AdkQuery

# Sessions that evaluations of agents leave behind belong to no user.
HIDDEN = ("adk-eval-session-", "___eval___session___")
LARGE = 256 * 1024  # characters; above that a thread does the work, so that others are served meanwhile
AT_ONCE = 200  # sessions between two turns of the event loop: about a millisecond
Place = tuple[float, str, str]

Stored = Annotated[
    bool,
    Query(description="For services: state and events as they are kept, with ADK's own metadata and with credentials."),
]
Seconds = Annotated[float | None, Field(ge=0, allow_inf_nan=False)]


class ListQuery(BaseModel):
    """``limit``: without it all sessions are listed. Times are Unix seconds of the last update."""

    limit: int | None = Field(None, ge=1, le=500, description="Sessions of a page; all of them where it is not given.")
    cursor: str | None = Field(None, description="X-Next-Cursor of the page before.")
    updated_since: Seconds = Field(None, description="Only sessions that changed at that Unix time or later.")
    stored: bool = Field(False, description="For services: the state as it is kept, with credentials.")
    updated_before: Seconds = Field(None, description="Only sessions that did not change at that Unix time or later.")


Listing = Annotated[ListQuery, Query()]


async def listed(call: Call, app: str, user_id: str | None, query: ListQuery) -> Response:
    """Return a page of the user's sessions, or of all users' for None."""
    page = await call.services.store.adk_list(AdkQuery(app, user_id, _start(query), query.limit, HIDDEN))
    sessions, following = page.sessions, page.next_after
    if query.updated_before is not None:
        before = query.updated_before
        kept = [each for each in sessions if each.update_time < before]
        following = following if len(kept) == len(sessions) else None
        sessions = kept
    array = await _array(sessions, stored=query.stored and call.caller.trusted)
    return Response(array, headers=_following(following, query), media_type=JSON)


def _start(query: ListQuery) -> Place | None:
    """Return where the page begins. The list is in order of updates, so a time is a place in it."""
    since = (query.updated_since, "", "") if query.updated_since is not None else None
    if query.cursor is None:
        return since
    place: Place = cursors.decode(query.cursor, float, str, str)  # type: ignore[assignment]
    return max(place, since) if since else place


async def _array(sessions: Sequence[AdkSession], *, stored: bool) -> bytes:
    pieces: list[bytes] = []
    for start in range(0, len(sessions), AT_ONCE):
        some = sessions[start : start + AT_ONCE]
        if sum(each.size for each in some) < LARGE:
            pieces += _encoded(some, stored=stored)
            await asyncio.sleep(0)
        else:
            pieces += await asyncio.to_thread(_encoded, some, stored=stored)
    return b"[" + b",".join(pieces) + b"]"


def _encoded(sessions: Sequence[AdkSession], *, stored: bool) -> list[bytes]:
    return [session_json(each, stored=stored) for each in sessions]


def _following(place: Place | None, query: ListQuery) -> dict[str, str]:
    if place is None:
        return {}
    cursor = cursors.encode(place)
    asked = query.model_dump(exclude={"cursor"}, exclude_none=True)
    return {"x-next-cursor": cursor, "link": f'<?{urlencode({**asked, "cursor": cursor})}>; rel="next"'}
