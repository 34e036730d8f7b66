"""ADK's routes of sessions: make, read, list, change, delete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Body, Depends, HTTPException, Response

from session_manager.api.adk.access import Access, Asked, counted
from session_manager.api.adk.bodies import AppendEvents, CreateSession, Route, UpdateSession
from session_manager.api.adk.listing import LARGE, listed
from session_manager.api.adk.queries import AfterTimestamp, Listing, Recent, Stored
from session_manager.api.limits import CurrentActor, RouteLimits
from session_manager.domain.access import OwnedBy
from session_manager.domain.adk.events import is_partial, session_json, state_event, stored_event
from session_manager.domain.adk.initial_events import check_initial
from session_manager.domain.adk.model import TEMP, AdkSession, NewAdkSession, State
from session_manager.domain.errors import Conflict, InvalidInput, NotFound
from session_manager.domain.session_class import class_for_app
from session_manager.domain.times import micros
from session_manager.wiring.services import Services

SESSIONS = "/apps/{app_name}/users/{user_id}/sessions"
SESSION = SESSIONS + "/{session_id}"
JSON = "application/json"


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["sessions"], route_class=Route)
    _add_reading(routes, services, limits)
    _add_creation(routes, services, limits)
    _add_changes(routes, services, limits)
    _add_append(routes, services, limits)
    return routes


async def shown(session: AdkSession, temporary: State | None = None, *, stored: bool = False) -> Response:
    """A session as ADK shows it; its uuid, by which our own routes know it, goes beside it."""
    work = partial(session_json, session, temporary, stored=stored)
    content = work() if session.size < LARGE else await asyncio.to_thread(work)
    return Response(content, headers={"x-session-id": session.uuid}, media_type=JSON)


def _add_creation(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    @routes.post(SESSIONS, dependencies=counted(limits.create))
    async def create_session(access: Access, body: CreateSession | None = None, stored: Stored = False) -> Response:
        """Make a session, with an id of the caller's or a new one, with state and with events of another place."""
        body = body or CreateSession()
        check_initial(body.events or ())
        if body.options:
            raise HTTPException(400, f"options are not known here: {', '.join(sorted(body.options))}")
        session = await _make(services, access, body.session_id or "", body.state or {}, body.events or ())
        return await shown(session, stored=stored and access.service)

    @routes.post(SESSION, deprecated=True, dependencies=counted(limits.create))
    async def create_session_with_id(
        access: Access,
        session_id: str,
        state: Annotated[State | None, Body()] = None,
    ) -> Response:
        """Make a session of that id. The body is its state."""
        return await shown(await _make(services, access, session_id, state or {}))


async def _make(
    services: Services, access: Asked, session_id: str, state: State, events: Sequence[dict[str, Any]] = ()
) -> AdkSession:
    """409 when the id is taken. A session without an id of its own is called by its uuid on both doors."""
    uuid = str(uuid4())
    key = access.new_key(session_id.strip() or uuid)
    access.check_shared(state)
    session_class = class_for_app(services.classes, key.app)
    kept = tuple(stored_event(each, time.time(), uuid4, restored=True) for each in events if not is_partial(each))
    new = NewAdkSession(uuid, key, session_class.name, micros(session_class.ttl), state, kept)
    try:
        record, session = await services.store.adk_create(new)
    except Conflict:
        raise HTTPException(409, f"Session already exists: {key.id}") from None
    services.host.created(record)
    return session


def _add_reading(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    reading = counted(limits.read)

    @routes.get(SESSION, dependencies=reading)
    async def get_session(
        access: Access,
        session_id: str,
        num_recent_events: Recent = None,
        after_timestamp: AfterTimestamp = 0.0,
        stored: Stored = False,
    ) -> Response:
        """The session with its events, or with the last of them."""
        key = access.key(session_id)
        session = await services.store.adk_get(key, num_recent_events, after_timestamp, access=access.actor.access)
        return await shown(session, stored=stored and access.service)

    @routes.get(SESSIONS, dependencies=reading)
    async def list_sessions(access: Access, query: Listing) -> Response:
        """The user's sessions without their events, oldest update first."""
        if not access.known:
            return Response(b"[]", media_type=JSON)
        return await listed(services, access.app, access.user_id, query, stored=query.stored and access.service)

    @routes.get("/apps/{app_name}/sessions", dependencies=[Depends(limits.read)])
    async def list_sessions_of_all_users(actor: CurrentActor, app_name: str, query: Listing) -> Response:
        """Beyond ADK: the app's sessions of all users whom the caller may act for."""
        if "\0" in app_name:
            return Response(b"[]", media_type=JSON)
        return await listed(services, app_name, actor.user, query, stored=query.stored and actor.user is None)


def _add_changes(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    @routes.patch(SESSION, dependencies=counted(limits.change))
    async def update_session(access: Access, session_id: str, body: UpdateSession) -> Response:
        """Change the state. It is one more event, and never too late for one that came in between."""
        key = access.key(session_id)
        access.check_shared(body.state_delta)
        session = await services.store.adk_change(key, [state_event(body.state_delta, time.time(), uuid4)])
        return await shown(session, {key: each for key, each in body.state_delta.items() if key.startswith(TEMP)})

    @routes.delete(SESSION, dependencies=counted(limits.delete))
    async def delete_session(access: Access, session_id: str) -> None:
        """End the session for good, with its pod and its files; null also where there is none."""
        try:
            record = await services.store.adk_record(access.key(session_id))
            await services.lifecycle.delete(record.uuid, OwnedBy(access.user_id))
        except NotFound:
            return


def _add_append(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    @routes.post(SESSION + "/events", dependencies=counted(limits.change))
    async def append_events(access: Access, session_id: str, body: AppendEvents) -> dict[str, float]:
        """Beyond ADK: append events and what they change in the state, all of them or none.

        409 when `lastUpdateTime` is given and somebody else has written since; an event whose id is known is ignored.
        """
        given = [*([body.event] if body.event is not None else []), *(body.events or [])]
        if not given:
            raise InvalidInput("event or events: must be given", "event")
        events = [
            stored_event(each, time.time(), uuid4, internal=access.service) for each in given if not is_partial(each)
        ]
        key = access.key(session_id)
        for each in given:
            access.check_shared(each["actions"]["state_delta"])
        updated = await services.store.adk_append(key, events, seen=body.last_update_time, access=access.actor.access)
        return {"lastUpdateTime": updated}
