"""``POST /session/{id}/chat`` as plain ASGI: the hot path, where routing and models would cost more than the work."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from session_manager.aio.beside import by_size
from session_manager.aio.ids import new_id
from session_manager.api import answers, sse
from session_manager.api.call import Call, checked_json
from session_manager.api.schemas import ChatRequest, SessionId
from session_manager.domain.access import UserCaller
from session_manager.domain.errors import InvalidInput, NotFound, TooLarge
from session_manager.domain.message import MAX_MESSAGE_BYTES, MessageStatus, NewMessage, Outcome
from session_manager.domain.session import Failure
from session_manager.domain.values import is_session_id
from session_manager.tracing.context import current
from session_manager.turns.feed import DELETED
from session_manager.turns.service import Notes, Progress, Ticket, Turns

MAX_WAIT = 300.0
MAX_KEY = 255
CROWDED = "its pod starts as soon as one of the user's awake pods ({}) goes to sleep."


@dataclass(slots=True)
class ChatOptions:
    """The options in the headers. ``wait`` is in seconds, or None if the caller did not say."""

    idempotency_key: str | None
    wait: float | None
    stream: bool


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    call: Call = scope["call"]
    session = call.params["session_id"].lower()
    if not is_session_id(session):
        raise InvalidInput("session_id: must be a UUID", "session_id")
    options = options_of(call.headers)
    new = new_message(session, await by_size(len(call.body), _text_of, call.body), call.user_caller, options)
    if options.stream:
        await _stream(new, call, receive, send)
        return
    status, headers, body = await _answer(new, call, options)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def described(session_id: SessionId, body: ChatRequest) -> None:
    """Send a message. The pod wakes if it sleeps; the turn goes on if the caller hangs up."""
    # OpenAPI's view of ``chat``: the signature and the docstring. Nothing calls it.


async def _answer(new: NewMessage, call: Call, options: ChatOptions) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    turns = call.services.turns
    ticket = await turns.submit(new, call.access)
    try:
        outcome = await turns.outcome(ticket, call.services.settings.sessions.answer_within, options.wait)
    except asyncio.CancelledError:
        # The server stops. The message is safe, and the answer says where to look for the result.
        outcome = None
    headers = [(b"content-type", b"application/json")]
    if options.wait is not None:
        headers.append((b"preference-applied", b"wait=%d" % options.wait))
    if outcome is not None:
        return 200, headers, _ended(ticket, outcome)
    location = f"/session/{ticket.message.session}/messages/{ticket.message.id}"
    headers.append((b"location", location.encode()))
    return 202, headers, await waiting(turns, ticket)


async def _stream(new: NewMessage, call: Call, receive: Receive, send: Send) -> None:
    """Subscribe first, so that no delta is missed, then submit; the turn outlives the stream."""
    turns = call.services.turns
    call.begin_stream()
    async with aclosing(call.services.feed.notes(new.session, call.share)) as notes:
        await anext(notes)
        ticket = await turns.submit(new, call.access)
        await sse.stream(_pieces(turns, ticket, notes), receive, send, call.share)


async def _pieces(turns: Turns, ticket: Ticket, notes: Notes) -> AsyncGenerator[bytes, None]:
    queued = {"message_id": ticket.message.id, "position": 0 if ticket.turn else ticket.position or 1}
    yield sse.event("turn.running" if ticket.turn else "turn.queued", orjson.dumps(queued))
    try:
        async with aclosing(turns.follow(ticket, notes)) as items:
            async for item in items:
                if item is None:
                    yield sse.SIGN_OF_LIFE
                elif isinstance(item, Failure):
                    yield sse.failed_start(item)
                elif isinstance(item, Outcome):
                    yield sse.event(f"turn.{item.status}", _ended(ticket, item))
                else:
                    yield sse.live(item)
    except NotFound:
        yield sse.event(DELETED, b"{}")


async def waiting(turns: Turns, ticket: Ticket) -> bytes:
    """Return the answer to a turn that has no result yet."""
    progress = await turns.progress(ticket.message) if ticket.turn is None else Progress(MessageStatus.RUNNING)
    running = progress.status is MessageStatus.RUNNING
    position = 0 if running else ticket.position or 1
    return orjson.dumps(
        {
            "uuid": ticket.message.session,
            "status": "running" if running else "queued",
            "message": _sentence(ticket, progress, position),
            "message_id": ticket.message.id,
            "position": position,
            "failure": answers.failure(progress.failure),
        }
    )


def new_message(
    session: str, text: str, caller: UserCaller, options: ChatOptions, payload: str | None = None
) -> NewMessage:
    key = options.idempotency_key
    digest = hashlib.sha256((payload or text).encode()).hexdigest() if key is not None else None
    trace = current.get()
    context = None if trace is None else trace.text
    return NewMessage(new_id(), session, text, caller.idempotency_caller, key, digest, payload, context)


def _text_of(body: bytes) -> str:
    data: Any = checked_json(body)
    if not isinstance(data, dict):
        raise InvalidInput("the body must be a JSON object with a message")
    text = data.get("message")
    if not isinstance(text, str):
        raise InvalidInput("message: must be a string", "message")
    if not text:
        raise InvalidInput("message: must have at least 1 character", "message")
    if len(text) > MAX_MESSAGE_BYTES or (len(text) * 4 > MAX_MESSAGE_BYTES and len(text.encode()) > MAX_MESSAGE_BYTES):
        raise TooLarge("message: must be at most 1 MiB of UTF-8")
    return text


def options_of(headers: dict[bytes, bytes]) -> ChatOptions:
    """Return the options in the headers. Raises InvalidInput, which names the header."""
    key = headers.get(b"idempotency-key")
    prefer = headers.get(b"prefer")
    stream = b"text/event-stream" in headers.get(b"accept", b"")
    return ChatOptions(_idempotency_key(key) if key is not None else None, _wait(prefer) if prefer else None, stream)


def _idempotency_key(value: bytes) -> str:
    key = value.decode("latin-1").strip()
    if not 1 <= len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key: must be 1 to {MAX_KEY} printable characters", "Idempotency-Key")
    return key


def _wait(value: bytes) -> float | None:
    """Return ``wait=N`` of a Prefer header, at most ``MAX_WAIT`` seconds; other preferences are ignored."""
    for part in value.decode("latin-1").replace(";", ",").split(","):
        name, _, number = part.strip().partition("=")
        if name.strip().lower() == "wait":
            digits = number.strip().strip('"')
            if not (digits.isascii() and digits.isdigit()):
                raise InvalidInput("Prefer: wait must be a whole number of seconds", "Prefer")
            return min(float(digits), MAX_WAIT)
    return None


def _ended(ticket: Ticket, outcome: Outcome) -> bytes:
    """Return the answer to a turn that has its result; the pod's JSON is passed on as it is."""
    head = b'{"uuid":"%b","status":"%b",' % (ticket.message.session.encode(), outcome.status.encode())
    tail = b',"message_id":"%b"}' % ticket.message.id.encode()
    if outcome.response is not None:
        return head + b'"pod_response":' + outcome.response.encode() + tail
    return head + b'"error":' + orjson.dumps(outcome.error) + tail


def _sentence(ticket: Ticket, progress: Progress, position: int) -> str:
    if progress.status is MessageStatus.RUNNING:
        return "The agent is working on your message."
    if progress.failure is not None:
        return "The pod cannot start. Your message is kept, and the start is tried again."
    if position > 1:
        return f"Your message waits; {position - 1} before it."
    if ticket.crowd:
        return f"Your message is next; {CROWDED.format(ticket.crowd)}"
    return "Your message is next." if ticket.awake else "The pod is waking up; your message is next."
