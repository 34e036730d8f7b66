"""``/run`` and ``/run_sse``: a turn of the session's pod, through the same inbox as every other message.

The turn goes on when its caller hangs up.  ``/run`` never times out: when the turn takes long, its answer begins as 200
and stays open with white space until the events are available.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from math import ceil

from fastapi import HTTPException, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic_core import to_json

from session_manager.aio.beside import by_size
from session_manager.api.adk.inputs import Body, ContentBody, check_shared
from session_manager.api.adk.run_events import GONE, Live, Run, events_of, failure_line, why_not_started
from session_manager.api.call import Call, CurrentCall
from session_manager.api.chat import new_message, options_of, waiting
from session_manager.api.errors import JSON
from session_manager.domain.access import UserCaller
from session_manager.domain.adk.events import CONTENT
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.errors import InvalidInput, NotFound, TooLarge
from session_manager.domain.message import MAX_MESSAGE_BYTES, NewMessage
from session_manager.domain.session import Failure, Session
from session_manager.domain.times import seconds
from session_manager.domain.values import Json

SIGN_OF_LIFE = 10.0  # seconds between the blanks of an answer that has begun
NOTHING_TO_DO = "Running an agent needs newMessage, or the invocationId of a run to go on with."
SSE_HEADERS = {"x-accel-buffering": "no"}


class RunBody(Body):
    app_name: str | None = None
    user_id: str
    session_id: str
    new_message: ContentBody | None = None
    streaming: bool = False
    state_delta: Json | None = None
    function_call_event_id: str | None = None
    invocation_id: str | None = None
    custom_metadata: Json | None = None
    service_tier: str | None = None

    @property
    def empty(self) -> bool:
        return self.new_message is None and not self.invocation_id

    @property
    def text(self) -> str:
        """The text of the message: all that a pod gets that does not speak ADK."""
        parts = (self.new_message or {}).get("parts") or ()
        return "".join(part.get("text") or "" for part in parts if not part.get("thought"))

    def payload(self, *, streaming: bool) -> str:
        """Return what a pod gets that speaks ADK."""
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


async def run(call: CurrentCall, body: RunBody) -> Response:
    """Run the agent and answer with its events. `Prefer: respond-async` or `wait=N`: 202 when it takes longer."""
    caller, session = await _session(call, body)
    if body.empty:
        return PlainTextResponse(NOTHING_TO_DO, 500)
    turns, patience = call.services.turns, call.services.settings.sessions.answer_within
    wait = _patience(call)
    begun = await _begin(call, caller, session, body)
    try:
        outcome = await turns.outcome(begun.ticket, patience, patience if wait is None else wait)
    except asyncio.CancelledError:  # the server stops; the message is safe
        outcome, wait = None, 0.0
    if outcome is None and wait is not None:
        location = f"/session/{session.uuid}/messages/{begun.message.id}"
        return Response(await waiting(turns, begun.ticket), 202, {"location": location}, JSON)
    if outcome is None:
        failure = await turns.failure(session.uuid)
        if failure is not None:
            return PlainTextResponse(why_not_started(failure), 503, {"retry-after": _pause(failure)})
        return StreamingResponse(_late(begun), media_type=JSON)
    if outcome.error is not None:
        return PlainTextResponse(outcome.error, 500)
    return Response(await events_of(begun, outcome), media_type=JSON)


async def run_sse(call: CurrentCall, body: RunBody) -> Response:
    """Run the agent and stream its events, with `streaming` also their pieces."""
    caller, session = await _session(call, body)
    if body.empty:
        return Response(failure_line("ValueError", NOTHING_TO_DO), headers=SSE_HEADERS, media_type="text/event-stream")
    call.begin_stream()
    notes = call.services.feed.notes(session.uuid, call.share)
    try:
        await anext(notes)  # from here on nothing of the turn is missed
        begun = await _begin(call, caller, session, body, streaming=body.streaming)
    except BaseException:
        await notes.aclose()
        raise
    return StreamingResponse(Live(begun, notes).lines(), headers=SSE_HEADERS, media_type="text/event-stream")


async def _session(call: Call, body: RunBody) -> tuple[UserCaller, Session]:
    """Return the caller, counted, and the session. Answers 404 if there is none that the caller may see."""
    if not body.app_name:
        raise InvalidInput("appName is required")
    caller = await call.counted_for(body.user_id)
    key = AdkKey(body.app_name, body.user_id, body.session_id)
    if "\0" in "".join(key) or not caller.may_act_for(body.user_id):
        raise _no_session(body)
    try:
        session = await call.services.store.adk_record(key, caller.access)
    except NotFound:
        raise _no_session(body) from None
    check_shared(call.caller, body.state_delta)
    return caller, session


def _no_session(body: RunBody) -> HTTPException:
    return HTTPException(404, f"Session not found: {body.session_id}")


async def _begin(call: Call, caller: UserCaller, session: Session, body: RunBody, *, streaming: bool = False) -> Run:
    def prepare() -> NewMessage:
        text = body.text
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            raise TooLarge("newMessage: its text must be at most 1 MiB of UTF-8")
        return new_message(session.uuid, text, caller, options_of(call.headers), body.payload(streaming=streaming))

    new = await by_size(len(call.body), prepare)
    try:
        ticket = await call.services.turns.submit(new, caller.access)
    except NotFound:
        raise _no_session(body) from None
    return Run(call.services, session, ticket, streaming)


def _patience(call: Call) -> float | None:
    """Return the seconds after which the caller wants a 202, or None if it waits for the events."""
    wait = options_of(call.headers).wait
    if wait is None and b"respond-async" in call.headers.get(b"prefer", b"").lower():
        return 0.0
    return wait


def _pause(failure: Failure) -> str:
    """Return the whole seconds until the start is tried again."""
    return str(max(1, ceil(seconds(failure.next_try) - time.time())))


async def _late(run: Run) -> AsyncGenerator[bytes, None]:
    """Yield white space, with which JSON may begin, then the events."""
    outcome = None
    while outcome is None:
        yield b" "
        failure = await run.services.turns.failure(run.session.uuid)
        if failure is not None:
            yield to_json([{"errorCode": failure.reason, "errorMessage": why_not_started(failure)}])
            return
        try:
            outcome = await run.services.turns.outcome(run.ticket, SIGN_OF_LIFE, SIGN_OF_LIFE)
        except NotFound:
            yield to_json([{"errorCode": "SESSION_DELETED", "errorMessage": GONE}])
            return
    yield await events_of(run, outcome)
