"""ADK's list of sessions: a bare array, so that what is needed to go on stands in headers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode

from fastapi import Response

from session_manager.api import cursors
from session_manager.api.adk.queries import ListQuery
from session_manager.domain.adk.events import session_json
from session_manager.domain.adk.model import AdkSession
from session_manager.store.adk import AdkQuery
from session_manager.wiring.services import Services

# Sessions that evaluations of agents leave behind are no user's.
HIDDEN = ("adk-eval-session-", "___eval___session___")
LARGE = 256 * 1024  # characters; from there on the work is done in a thread, so that others are served meanwhile
AT_ONCE = 200  # sessions between two turns of the event loop: about a millisecond
Place = tuple[float, str, str]


async def listed(services: Services, app: str, user_id: str | None, query: ListQuery, *, stored: bool) -> Response:
    """``user_id`` None: of all users."""
    after = _start(query)
    page = await services.store.adk_list(AdkQuery(app, user_id, after, query.limit, HIDDEN))
    sessions, following = page.sessions, page.next_after
    if query.updated_before is not None:
        before = query.updated_before
        kept = [each for each in sessions if each.update_time < before]
        following = following if len(kept) == len(sessions) else None
        sessions = kept
    return Response(
        await _array(sessions, stored=stored), headers=_following(following, query), media_type="application/json"
    )


def _start(query: ListQuery) -> Place | None:
    """The list goes by update time: one that begins at a time begins after everything before it."""
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
            pieces += _told(some, stored=stored)
            await asyncio.sleep(0)
        else:
            pieces += await asyncio.to_thread(_told, some, stored=stored)
    return b"[" + b",".join(pieces) + b"]"


def _told(sessions: Sequence[AdkSession], *, stored: bool) -> list[bytes]:
    return [session_json(each, stored=stored) for each in sessions]


def _following(place: Place | None, query: ListQuery) -> dict[str, str]:
    if place is None:
        return {}
    cursor = cursors.encode(place)
    asked = query.model_dump(exclude={"cursor"}, exclude_none=True)
    return {"x-next-cursor": cursor, "link": f'<?{urlencode({**asked, "cursor": cursor})}>; rel="next"'}
