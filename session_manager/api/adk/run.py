"""``/run`` and ``/run_sse``: a turn of the session's pod, by the same inbox as every other message.

The turn goes on when its caller hangs up.  ``/run`` never times out: when the turn takes long its answer begins, as
200, and stays open with white space until the events are there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic_core import to_json

from session_manager.aio.ids import new_id
from session_manager.api.adk.access import asked
from session_manager.api.adk.bodies import Body, ContentBody, Route
from session_manager.api.adk.errors import missing
from session_manager.api.adk.run_events import GONE, Live, Run, events_of, failure_line
from session_manager.api.chat import caller_of, options_of, waiting
from session_manager.api.limits import ChatLimit
from session_manager.domain.access import OwnedBy
from session_manager.domain.adk.events import CONTENT
from session_manager.domain.errors import NotFound, TooLarge
from session_manager.domain.message import MAX_MESSAGE_BYTES, NewMessage
from session_manager.domain.session import Session
from session_manager.people.identity import Actor
from session_manager.wiring.services import Services

SIGN_OF_LIFE = 10.0  # seconds between the blanks of an answer that has begun
JSON = "application/json"
NOTHING_TO_DO = "Running an agent needs newMessage, or the invocationId of a run to go on with."
SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class RunBody(Body):
    app_name: str | None = None
    user_id: str
    session_id: str
    new_message: ContentBody | None = None
    streaming: bool = False
    state_delta: dict[str, Any] | None = None
    function_call_event_id: str | None = None
    invocation_id: str | None = None
    custom_metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    @property
    def empty(self) -> bool:
        return self.new_message is None and not self.invocation_id

    @property
    def text(self) -> str:
        """What a person said: all that a pod which does not speak ADK is told."""
        parts = (self.new_message or {}).get("parts") or ()
        return "".join(part.get("text") or "" for part in parts if not part.get("thought"))

    def payload(self, *, streaming: bool) -> str:
        """What a pod that speaks ADK is given."""
        more = {
            "streaming": streaming,
            "stateDelta": self.state_delta,
            "functionCallEventId": self.function_call_event_id,
            "invocationId": self.invocation_id,
            "customMetadata": self.custom_metadata,
            "serviceTier": self.service_tier,
        }
        said = to_json({name: value for name, value in more.items() if value is not None}).decode()
        return said if self.new_message is None else f'{{"newMessage":{CONTENT.stored(self.new_message)},{said[1:]}'


def router(services: Services, limit: ChatLimit) -> APIRouter:
    routes = APIRouter(tags=["runs"], route_class=Route)
    door = _Door(services, limit)

    @routes.post("/run")
    async def run(body: RunBody, request: Request) -> Response:
        """Run the agent and answer with its events. `Prefer: respond-async` or `wait=N`: 202 when it takes longer."""
        session = await door.session(body, request)
        if body.empty:
            return PlainTextResponse(NOTHING_TO_DO, 500)
        return await door.run(session, body, request)

    @routes.post("/run_sse")
    async def run_sse(body: RunBody, request: Request) -> Response:
        """Run the agent and stream its events, with `streaming` also their pieces."""
        session = await door.session(body, request)
        if body.empty:
            return _stream(_only(failure_line("ValueError", NOTHING_TO_DO)))
        return await door.stream(session, body, request)

    return routes


class _Door:
    def __init__(self, services: Services, limit: ChatLimit) -> None:
        self._services = services
        self._limit = limit

    async def session(self, body: RunBody, request: Request) -> Session:
        """404 where there is none that the caller may see."""
        if not body.app_name:
            raise HTTPException(400, "appName is required")
        access = asked(request, body.app_name, body.user_id)
        with missing(f"Session not found: {body.session_id}"):
            session = await self._services.store.adk_record(access.key(body.session_id))
        access.check_shared(body.state_delta)
        return session

    async def run(self, session: Session, body: RunBody, request: Request) -> Response:
        turns, patience = self._services.turns, self._services.settings.sessions.answer_within
        wait = _patience(request)
        run = await self._begin(session, body, request)
        try:
            outcome = await turns.outcome(run.ticket, patience, patience if wait is None else wait)
        except asyncio.CancelledError:  # the server stops; the message is safe
            outcome, wait = None, 0.0
        if outcome is None and wait is not None:
            where = f"/session/{session.uuid}/messages/{run.message.id}"
            return Response(await waiting(turns, run.ticket), 202, {"location": where}, JSON)
        if outcome is None:
            return StreamingResponse(_late(run), media_type=JSON)
        if outcome.error is not None:
            return PlainTextResponse(outcome.error, 500)
        return Response(await events_of(run, outcome), media_type=JSON)

    async def stream(self, session: Session, body: RunBody, request: Request) -> Response:
        notes = self._services.feed.notes(session.uuid)
        try:
            await anext(notes)  # nothing of the turn is missed from here on
            run = await self._begin(session, body, request, streaming=body.streaming)
        except BaseException:
            await notes.aclose()
            raise
        return _stream(Live(run, notes).lines())

    async def _begin(self, session: Session, body: RunBody, request: Request, *, streaming: bool = False) -> Run:
        actor: Actor = request.scope["actor"]
        await self._limit.check(actor, session.uuid)
        text = body.text
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise TooLarge("newMessage: its text must be 1 MiB of UTF-8 at most")
        payload = body.payload(streaming=streaming)
        key = options_of(request.scope["headers_map"]).idempotency_key
        digest = hashlib.sha256(payload.encode()).hexdigest() if key is not None else None
        new = NewMessage(new_id(), session.uuid, text, caller_of(actor), key, digest, payload)
        with missing(f"Session not found: {body.session_id}"):
            ticket = await self._services.turns.submit(new, OwnedBy(session.user_id))
        return Run(self._services, session, ticket, streaming)


def _patience(request: Request) -> float | None:
    """Seconds after which the caller wants to be told where to look; None: it waits."""
    headers = request.scope["headers_map"]
    wait = options_of(headers).wait
    if wait is None and b"respond-async" in headers.get(b"prefer", b"").lower():
        return 0.0
    return wait


async def _late(run: Run) -> AsyncGenerator[bytes, None]:
    """White space, which JSON may begin with, then the events."""
    outcome = None
    while outcome is None:
        yield b" "
        try:
            outcome = await run.services.turns.outcome(run.ticket, SIGN_OF_LIFE, SIGN_OF_LIFE)
        except NotFound:
            yield to_json([{"errorCode": "SESSION_DELETED", "errorMessage": GONE}])
            return
    yield await events_of(run, outcome)


def _stream(lines: AsyncGenerator[bytes, None]) -> StreamingResponse:
    return StreamingResponse(lines, headers=SSE_HEADERS, media_type="text/event-stream")


async def _only(line: bytes) -> AsyncGenerator[bytes, None]:
    yield line
