"""Routes of a session as a whole: create, look, list, rename, wake, sleep, delete, logs."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from session_manager.api import answers, cursors
from session_manager.api.limits import CurrentActor, RouteLimits
from session_manager.api.paths import SESSION_PATTERN, SessionId
from session_manager.api.schemas import (
    ActionAnswer,
    ChatProcessed,
    ChatQueued,
    ChatRequest,
    CreateAnswer,
    CreateRequest,
    DeleteAnswer,
    RenameRequest,
    SessionAnswer,
    SessionList,
    WakeRequest,
)
from session_manager.domain.errors import ActivityUnavailable, Forbidden, InvalidInput, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session import Hot, Session
from session_manager.domain.status import COLD_SQL, HOT, Status, cold_status
from session_manager.domain.times import micros
from session_manager.people.identity import Actor
from session_manager.store.protocol import NewSession, SessionQuery
from session_manager.wiring.services import Services

Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(description="next_cursor of the page before.")]

LISTED = frozenset(COLD_SQL) - {Status.EXPIRED}


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["sessions"])
    _add_creation(routes, services, limits)
    _add_reading(routes, services, limits)
    _add_actions(routes, services, limits)
    _document_chat(routes)
    return routes


def _add_creation(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    # The order counts: who acts is known before it is counted.
    before = [Depends(acts_for), Depends(limits.create)]

    @routes.post("/session/create", status_code=201, response_model=CreateAnswer, dependencies=before)
    async def create(body: CreateRequest, actor: CurrentActor) -> Response:
        """Make a session. Its pod starts with the first message, or by an explicit wake."""
        session_class = services.classes.get(body.class_name)
        new = NewSession(str(uuid4()), body.user_id, session_class.name, micros(session_class.ttl), body.name)
        session = await services.store.create_session(new)
        services.host.created(session)
        return answers.json(answers.created(session), 201, {"location": f"/session/{session.uuid}"})


async def acts_for(request: Request, body: CreateRequest) -> None:
    """A session is made for the acting user; a service without one names the user in the body."""
    actor: Actor = request.scope["actor"]
    if actor.user is not None and actor.user != body.user_id:
        raise Forbidden("user_id is not the user that this caller acts for")
    request.scope["actor"] = Actor(actor.caller, body.user_id, actor.address) if actor.caller != "local" else actor


def _add_reading(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    reading = [Depends(limits.read)]

    @routes.get("/session/{session_id}", response_model=SessionAnswer, dependencies=reading)
    @routes.get("/session/{session_id}/status", response_model=SessionAnswer, dependencies=reading)
    async def look(session_id: SessionId, actor: CurrentActor) -> Response:
        """The session and what its pod does. Never asks the cluster."""
        record = await services.store.get_session(session_id, actor.access)
        return answers.json(await _whole(services, record))

    @routes.get("/sessions", response_model=SessionList, dependencies=reading)
    async def list_sessions(
        actor: CurrentActor,
        limit: Limit = 50,
        cursor: Cursor = None,
        status: Status | None = None,
        user_id: str | None = None,
        app: str | None = None,
        adk_id: str | None = None,
    ) -> Response:
        """Sessions, newest first. Expired ones only when asked for."""
        after = cursors.decode(cursor, int, str) if cursor is not None else None
        awake, stale = await _awake(services)
        query = SessionQuery(
            access=actor.access,
            user_id=user_id,
            app=app,
            adk_id=adk_id,
            cold=LISTED if status is None else frozenset({status}) & frozenset(COLD_SQL),
            hot_ids=frozenset(awake),
            hot_wanted=frozenset(each for each, is_status in awake.items() if status in (None, is_status)),
            after=after,  # type: ignore[arg-type]
            limit=limit,
        )
        page = await services.store.list_sessions(query)
        rows = [answers.session_row(each, awake.get(each.uuid) or cold_status(each)) for each in page.sessions]
        following = cursors.encode(page.next_after) if page.next_after is not None else None
        answer: dict[str, Any] = {"total": page.total, "sessions": rows, "next_cursor": following}
        return answers.json({**answer, "stale": True} if stale else answer)

    @routes.get("/session/{session_id}/logs", response_class=PlainTextResponse, dependencies=reading)
    async def logs(
        session_id: SessionId, actor: CurrentActor, tail: Annotated[int, Query(ge=1, le=10_000)] = 200
    ) -> Response:
        """The last lines that the session's pods printed."""
        await services.store.get_session(session_id, actor.access)
        return PlainTextResponse(await services.host.logs(session_id, tail))


async def _whole(services: Services, record: Session) -> dict[str, Any]:
    with suppress(Unavailable):
        if services.host.mode(record.uuid) is Mode.SUSPENDED:
            return answers.session(record, await _hot(services, record.uuid), suspended=True)
    return answers.session(record, await _hot(services, record.uuid))


async def _hot(services: Services, session: str) -> Hot | None:
    try:
        return await services.activity.hot(session)
    except ActivityUnavailable:
        return None


async def _awake(services: Services) -> tuple[dict[str, Status], bool]:
    """The hot ids with their status, and whether Redis is away."""
    try:
        awake = await services.activity.awake()
    except ActivityUnavailable:
        return {}, True
    return {each: Status.AWAKE if state.address else Status.WAKING for each, state in awake.items()}, False


def _add_actions(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    @routes.patch("/session/{session_id}", response_model=SessionAnswer, dependencies=[Depends(limits.read)])
    async def rename(session_id: SessionId, body: RenameRequest, actor: CurrentActor) -> Response:
        """Give the session another name, or none."""
        record = await services.store.rename_session(session_id, body.name, actor.access)
        return answers.json(await _whole(services, record))

    @routes.post("/session/{session_id}/wake", response_model=ActionAnswer, dependencies=[Depends(limits.wake)])
    async def wake(
        session_id: SessionId, actor: CurrentActor, body: Annotated[WakeRequest | None, Body()] = None
    ) -> Response:
        """Start the pod without a message, or keep it awake. Revives an expired session, retries a failed start."""
        keep_awake = body.keep_awake_seconds if body is not None else 0.0
        answers_now = await services.lifecycle.wake(session_id, actor.access, keep_awake)
        status = Status.AWAKE if answers_now else Status.WAKING
        message = "The pod answers." if answers_now else "The pod is starting."
        return _action(session_id, "wake", status, message)

    @routes.post("/session/{session_id}/sleep", response_model=ActionAnswer, dependencies=[Depends(limits.change)])
    async def sleep(session_id: SessionId, actor: CurrentActor, when: Literal["now", "idle"] = "now") -> Response:
        """Stop the pod; 409 while a turn runs or waits, unless ``when=idle``: then as soon as it may."""
        record, had_pod = await services.lifecycle.sleep(session_id, actor.access, when_idle=when == "idle")
        status = answers.session(record, await _hot(services, session_id))["status"]
        if had_pod and status not in HOT:
            return _action(session_id, "sleep", Status.SLEEPING, "The pod goes to sleep.")
        message = "It sleeps as soon as it is idle." if had_pod else "There was no pod."
        return _action(session_id, "sleep", status, message)

    @routes.delete("/session/{session_id}", response_model=DeleteAnswer, dependencies=[Depends(limits.delete)])
    async def delete(session_id: SessionId, actor: CurrentActor) -> Response:
        """End the session for good: pod, messages and files. Every later call for it is 404."""
        await services.lifecycle.delete(session_id, actor.access)
        return answers.json({"uuid": session_id, "status": "terminated", "message": "The session is deleted."})


def _action(session: str, action: str, status: Status, message: str) -> Response:
    return answers.json({"uuid": session, "action": action, "status": status, "message": message})


def _document_chat(routes: APIRouter) -> None:
    """The chat route is served before FastAPI sees it (chat.py); this puts it into OpenAPI."""

    @routes.post(
        "/session/{session_id}/chat",
        tags=["turns"],
        response_model=ChatProcessed,
        responses={
            202: {"model": ChatQueued, "description": "Durably accepted; it waits or still runs. See Location."},
            200: {"content": {"text/event-stream": {}}, "description": "The turn ended; or its live stream."},
        },
        openapi_extra={
            "parameters": [
                _header("Idempotency-Key", "Repeat a message safely: the same key and body is the same message."),
                _header("Prefer", "wait=N: hold the answer up to N seconds, 300 at most."),
            ]
        },
    )
    async def chat(session_id: Annotated[str, Path(pattern=SESSION_PATTERN)], body: ChatRequest) -> Response:
        """Send a message. The pod wakes if it sleeps; the turn goes on if the caller hangs up."""
        raise InvalidInput("served before this")


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}
