"""ADK's routes of sessions: make, read, list, change, delete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated
from uuid import uuid4

from fastapi import Body, Query, Response

from session_manager.api.adk.access import AdkUser, User, check_shared
from session_manager.api.adk.bodies import AppendEvents, CreateSession, UpdateSession
from session_manager.api.adk.listing import LARGE, Listing, Stored, listed
from session_manager.api.call import Call, CurrentCall
from session_manager.api.errors import JSON
from session_manager.domain.access import OwnedBy
from session_manager.domain.adk.events import is_partial, session_json, state_event, stored_event
from session_manager.domain.adk.limits import check_initial
from session_manager.domain.adk.model import TEMP, AdkSession, NewAdkSession, State
from session_manager.domain.errors import Conflict, InvalidInput, NotFound
from session_manager.domain.session_class import class_for_app
from session_manager.domain.times import micros
from session_manager.domain.values import Json

Recent = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="Only the last N events; 0 for none.")]
AfterTimestamp = Annotated[float, Query(ge=0, allow_inf_nan=False, description="Only events since (Unix seconds).")]


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
    kept = tuple(stored_event(each, time.time(), uuid4, restored=True) for each in events if not is_partial(each))
    new = NewAdkSession(uuid, key, session_class.name, micros(session_class.ttl), state, kept)
    try:
        record, session = await call.services.store.adk_create(new)
    except Conflict:
        raise Conflict(f"Session already exists: {key.id}") from None
    call.services.host.created(record)
    return session


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
    session = await call.services.store.adk_get(key, num_recent_events, after_timestamp, access=call.access)
    return await _shown(session, stored=stored and call.caller.trusted)


async def list_sessions(call: CurrentCall, user: User, query: Listing) -> Response:
    """The user's sessions without their events, oldest update first."""
    return await listed(call, user.app, user.id, query)


async def list_all_users_sessions(call: CurrentCall, app_name: str, query: Listing) -> Response:
    """Beyond ADK: the app's sessions of all users whom the caller may act for."""
    if "\0" in app_name:
        raise NotFound
    user_id = call.access.user if isinstance(call.access, OwnedBy) else None
    return await listed(call, app_name, user_id, query)


async def update_session(call: CurrentCall, user: User, session_id: str, body: UpdateSession) -> Response:
    """Change the state. The change is one more event, and never conflicts with another writer."""
    check_shared(call.caller, body.state_delta)
    event = state_event(body.state_delta, time.time(), uuid4)
    session = await call.services.store.adk_change(user.key(session_id), [event])
    return await _shown(session, {key: each for key, each in body.state_delta.items() if key.startswith(TEMP)})


async def delete_session(call: CurrentCall, user: User, session_id: str) -> None:
    """End the session for good, with its pod and its files. Answers null also if it does not exist."""
    record = await call.services.store.adk_record(user.key(session_id))
    await call.services.lifecycle.delete(record.uuid, OwnedBy(user.id))


async def append_events(call: CurrentCall, user: User, session_id: str, body: AppendEvents) -> dict[str, float]:
    """Beyond ADK: append events and what they change in the state, all of them or none.

    409 if `lastUpdateTime` is given and another writer was faster. An event whose id is known is ignored.
    """
    given = [*([body.event] if body.event is not None else []), *(body.events or [])]
    if not given:
        raise InvalidInput("event or events: must be given", "event")
    trusted, now = call.caller.trusted, time.time()
    events = [stored_event(each, now, uuid4, internal=trusted) for each in given if not is_partial(each)]
    key = user.key(session_id)
    for each in given:
        check_shared(call.caller, each["actions"]["state_delta"])
    updated = await call.services.store.adk_append(key, events, seen=body.last_update_time, access=call.access)
    return {"lastUpdateTime": updated}


async def _shown(session: AdkSession, temporary: State | None = None, *, stored: bool = False) -> Response:
    """Return the session as ADK shows it; the header has its uuid, by which our own routes know it."""
    work = partial(session_json, session, temporary, stored=stored)
    content = work() if session.size < LARGE else await asyncio.to_thread(work)
    return Response(content, headers={"x-session-id": session.uuid}, media_type=JSON)
