"""ADK's routes of sessions, and of what they share: the memory and the state of their user.

The list is a bare array, so the cursor of the next page is in headers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated
from urllib.parse import urlencode
from uuid import uuid4

from fastapi import Body, Query, Response
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json

from session_manager.aio.beside import beside, by_size
from session_manager.api import answers
from session_manager.api.adk.inputs import (
    WEIGHT,
    AdkUser,
    AppendEvents,
    CreateSession,
    UpdateMemory,
    UpdateSession,
    User,
    check_shared,
)
from session_manager.api.adk.pods import pod_events
from session_manager.api.call import Call, CurrentCall
from session_manager.api.errors import JSON
from session_manager.domain.access import Access, OwnedBy, PodTurn
from session_manager.domain.adk.events import event_json, is_partial, redacted, session_json, state_event, stored_event
from session_manager.domain.adk.limits import check_initial
from session_manager.domain.adk.model import TEMP, AdkEvent, AdkSession, NewAdkSession, State
from session_manager.domain.errors import Conflict, InvalidInput, NotFound
from session_manager.domain.session_class import class_for_app
from session_manager.domain.times import micros
from session_manager.domain.values import Json
from session_manager.store.protocol import AdkQuery

Recent = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Only the last N events; 0 for none.")]
AfterTimestamp = Annotated[float, Query(ge=0, allow_inf_nan=False, description="Only events since (Unix seconds).")]
# Sessions that evaluations of agents leave behind belong to no user.
HIDDEN = ("adk-eval-session-", "___eval___session___")
LARGE = 64 * 1024  # characters, which take 10 ms if they are many small events; more are shown beside the event loop
LONG_PAGE = 8 * 1024 * 1024  # characters of remembered events after which a page ends
LONG_LIST = 8 * 1024 * 1024  # characters of state after which a list ends; X-Next-Cursor continues it
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


async def create_session(
    call: CurrentCall, user: User, body: CreateSession | None = None, stored: Stored = False
) -> Response:
    """Make a session, with an id of the caller's or a new one, with state, and with events from elsewhere."""
    body = body or CreateSession()
    check_initial(body.events or ())
    if body.options:
        raise InvalidInput(f"unknown options: {', '.join(sorted(body.options))}")
    session = await _make(call, user, body.session_id or "", body.state or {}, body.events or ())
    return await _shown(session, stored=stored and call.caller.trusted)


async def create_session_with_id(
    call: CurrentCall, user: User, session_id: str, state: Annotated[State | None, Body()] = None
) -> Response:
    """Make a session of that id. The body is its state."""
    return await _shown(await _make(call, user, session_id, state or {}))


async def _make(call: Call, user: AdkUser, session_id: str, state: State, events: Sequence[Json] = ()) -> AdkSession:
    """Raise Conflict if the id is taken. A session without an id of its own has its uuid as id."""
    uuid = str(uuid4())
    key = user.new_key(session_id.strip() or uuid)
    check_shared(call.caller, state)
    session_class = class_for_app(call.services.classes, key.app)
    kept = await by_size(WEIGHT * len(call.body), _stored_events, events, restored=True)
    new = NewAdkSession(uuid, key, session_class.name, micros(session_class.ttl), state, kept)
    try:
        record, session = await call.services.store.adk_create(new)
    except Conflict:
        raise Conflict(f"Session already exists: {key.id}") from None
    call.services.host.created(record)
    return session


def _stored_events(events: Sequence[Json], *, restored: bool = False, internal: bool = False) -> tuple[AdkEvent, ...]:
    """Return the events as they are stored, without the partial ones. For the options see ``stored_event``."""
    now, whole = time.time(), (each for each in events if not is_partial(each))
    return tuple(stored_event(each, now, uuid4, restored=restored, internal=internal) for each in whole)


async def get_session(
    call: CurrentCall,
    user: User,
    session_id: str,
    num_recent_events: Recent = None,
    after_timestamp: AfterTimestamp = 0.0,
    stored: Stored = False,
) -> Response:
    """The session with its events, or with the last of them."""
    key = user.key(session_id)
    async with call.reads:
        session = await call.services.store.adk_get(key, num_recent_events, after_timestamp, access=call.access)
        return await _shown(session, stored=stored and call.caller.trusted)


async def list_sessions(call: CurrentCall, user: User, query: Listing) -> Response:
    """The user's sessions without their events, oldest update first."""
    return await _listed(call, user.app, OwnedBy(user.id, call.caller.classes), query)


async def list_all_users_sessions(call: CurrentCall, app_name: str, query: Listing) -> Response:
    """Beyond ADK: the app's sessions of all users whom the caller may act for."""
    if "\0" in app_name:
        raise NotFound
    return await _listed(call, app_name, call.access, query)


async def _listed(call: Call, app: str, access: Access, query: ListQuery) -> Response:
    wanted = AdkQuery(app, access, _start(query), query.limit, HIDDEN, LONG_LIST)
    async with call.reads:
        return await _page(call, wanted, query)


async def _page(call: Call, wanted: AdkQuery, query: ListQuery) -> Response:
    page = await call.services.store.adk_list(wanted)
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
    place: Place = answers.key_of(query.cursor, float, str, str)  # type: ignore[assignment]
    return max(place, since) if since else place


async def _array(sessions: Sequence[AdkSession], *, stored: bool) -> bytes:
    pieces: list[bytes] = []
    encode = partial(session_json, stored=stored)
    for start in range(0, len(sessions), AT_ONCE):
        some = sessions[start : start + AT_ONCE]
        if sum(each.size for each in some) < LARGE:
            pieces += map(encode, some)
            await asyncio.sleep(0)
        else:
            pieces += await beside(list, map(encode, some))
    return b"[" + b",".join(pieces) + b"]"


def _following(place: Place | None, query: ListQuery) -> dict[str, str]:
    if place is None:
        return {}
    cursor = answers.cursor_of(place)
    asked = query.model_dump(exclude={"cursor"}, exclude_none=True)
    return {"x-next-cursor": cursor, "link": f'<?{urlencode({**asked, "cursor": cursor})}>; rel="next"'}


async def update_session(call: CurrentCall, user: User, session_id: str, body: UpdateSession) -> Response:
    """Change the state. The change is one more event, and never conflicts with another writer."""
    check_shared(call.caller, body.state_delta)
    event = await by_size(WEIGHT * len(call.body), state_event, body.state_delta, time.time(), uuid4)
    session = await call.services.store.adk_change(user.key(session_id), [event], call.access)
    return await _shown(session, {key: each for key, each in body.state_delta.items() if key.startswith(TEMP)})


async def delete_session(call: CurrentCall, user: User, session_id: str) -> None:
    """End the session for good, with its pod and its files. Answers null also if it does not exist."""
    record = await call.services.store.adk_record(user.key(session_id), call.access)
    await call.services.lifecycle.delete(record.uuid, OwnedBy(user.id, call.caller.classes))


async def append_events(call: CurrentCall, user: User, session_id: str, body: AppendEvents) -> dict[str, float]:
    """Beyond ADK: append events and what they change in the state, all of them or none.

    409 if `lastUpdateTime` is given and another writer was faster. An event whose id is known is ignored.
    """
    given = [*([body.event] if body.event is not None else []), *(body.events or [])]
    if not given:
        raise InvalidInput("event or events: must be given", "event")
    whole = [each for each in given if not is_partial(each)]
    trusted, now = call.caller.trusted, time.time()
    if isinstance(call.caller, PodTurn):
        whole = await pod_events(call.services, call.caller, whole, now)
    events = await by_size(WEIGHT * len(call.body), _stored_events, whole, internal=trusted)
    key = user.key(session_id)
    for each in given:
        check_shared(call.caller, each["actions"]["state_delta"])
    updated = await call.services.store.adk_append(key, events, seen=body.last_update_time, access=call.access)
    return {"lastUpdateTime": updated}


async def patch_memory(call: CurrentCall, user: User, body: UpdateMemory) -> None:
    """The session's events so far become part of what is searched as its user's memory."""
    await call.services.store.remember(user.key(body.session_id), call.access)


async def search_memory(
    call: CurrentCall, user: User, query: Annotated[str, Query()], limit: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """Beyond ADK: remembered events with a word of the query in their text, newest first."""
    found = await call.services.store.search_memory(user.app, user.id, query.replace("\0", " "), limit, call.access)
    return Response(await beside(_memories, found), media_type=JSON)


async def get_user_state(call: CurrentCall, user: User, stored: Stored = False) -> Response:
    """Beyond ADK: the state that all sessions of the user in this app share, keys without their prefix."""
    state = await call.services.store.adk_user_state(user.app, user.id)
    as_stored = stored and call.caller.trusted
    return Response(await beside(lambda: to_json(state if as_stored else _redacted_state(state))), media_type=JSON)


def _redacted_state(state: State) -> State:
    return {key: redacted(each) for key, each in state.items()}


def _memories(events: Sequence[str]) -> bytes:
    """Return the answer with the first of the events: 100 of the longest ones would be 800 MiB."""
    memories: list[Json] = []
    size = 0
    for each in events:
        size += len(each)
        if size > LONG_PAGE and memories:
            break
        memories.append(_memory_entry(from_json(event_json(each))))
    return to_json({"memories": memories})


def _memory_entry(event: Json) -> Json:
    """Return the event as a memory entry of ADK, with the names of its class."""
    return {
        "id": event["id"],
        "author": event["author"],
        "timestamp": datetime.fromtimestamp(event["timestamp"], UTC).isoformat(),
        "content": event.get("content"),
        "custom_metadata": event.get("customMetadata") or {},
    }


async def _shown(session: AdkSession, temporary: State | None = None, *, stored: bool = False) -> Response:
    """Return the session as ADK shows it; the header has its uuid, by which our own routes know it."""
    work = partial(session_json, session, temporary, stored=stored)
    content = work() if session.size < LARGE else await beside(work)
    return Response(content, headers={"x-session-id": session.uuid}, media_type=JSON)
