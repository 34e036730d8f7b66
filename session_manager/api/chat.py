"""``POST /session/{id}/chat`` as plain ASGI: the hot path, where routing and models would cost more than the work.

It is documented in OpenAPI by ``sessions.py``, which declares the same path.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from session_manager.aio.ids import new_id
from session_manager.api import sse
from session_manager.api.bodies import MAX_CHAT_BODY, checked_json, read_body
from session_manager.api.limits import ChatLimit
from session_manager.domain.errors import InvalidInput, NotFound, TooLarge
from session_manager.domain.message import MAX_MESSAGE_BYTES, MessageStatus, NewMessage, Outcome
from session_manager.people.identity import Actor
from session_manager.turns.feed import DELETED, Feed
from session_manager.turns.service import Ticket, Turns

log = logging.getLogger(__name__)

MAX_WAIT = 300.0
MAX_KEY = 255

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class ChatOptions:
    """What the headers ask for. ``wait`` in seconds, None where the caller said nothing."""

    idempotency_key: str | None
    wait: float | None
    stream: bool


class ChatRoute:
    def __init__(self, turns: Turns, feed: Feed, limit: ChatLimit, answer_within: float) -> None:
        self._turns = turns
        self._feed = feed
        self._limit = limit
        self._answer_within = answer_within

    async def __call__(self, scope: Scope, receive: Receive, send: Send, session: str) -> None:
        actor: Actor = scope["actor"]
        options = options_of(scope["headers_map"])
        await self._limit.check(actor, session)
        text = _message_of(await read_body(receive, scope["headers_map"], MAX_CHAT_BODY))
        new = _new_message(session, text, actor, options)
        if options.stream:
            await self._stream(new, actor, receive, send)
            return
        status, headers, body = await self._answer(new, actor, options)
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, new: NewMessage, actor: Actor, options: ChatOptions
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        ticket = await self._turns.submit(new, actor.access)
        try:
            outcome = await self._turns.outcome(ticket, self._answer_within, options.wait)
        except asyncio.CancelledError:
            # The server stops. The message is safe, and its caller hears where to look for the result.
            outcome = None
        headers = [(b"content-type", b"application/json")]
        if options.wait is not None:
            headers.append((b"preference-applied", b"wait=%d" % options.wait))
        if outcome is not None:
            return 200, headers, _ended(ticket, outcome)
        location = f"/session/{ticket.message.session}/messages/{ticket.message.id}"
        headers.append((b"location", location.encode()))
        return 202, headers, await waiting(self._turns, ticket)

    # -- streaming ---------------------------------------------------------------------------------------------------

    async def _stream(self, new: NewMessage, actor: Actor, receive: Receive, send: Send) -> None:
        """Subscribe first, so that no delta is missed, then submit; the turn outlives the stream."""
        async with aclosing(self._feed.notes(new.session)) as notes:
            await anext(notes)
            ticket = await self._turns.submit(new, actor.access)
            await sse.stream(self._pieces(ticket, notes), receive, send)

    async def _pieces(self, ticket: Ticket, notes: AsyncIterator[dict[str, Any] | None]) -> AsyncGenerator[bytes, None]:
        message_id = ticket.message.id
        queued = {"message_id": message_id, "position": 0 if ticket.turn else ticket.position or 1}
        yield sse.event("turn.running" if ticket.turn else "turn.queued", orjson.dumps(queued))
        try:
            outcome = await self._turns.recorded(ticket.message)
            while outcome is None:
                note = await anext(notes)
                if note is None:
                    yield sse.SIGN_OF_LIFE
                elif note["kind"] == DELETED:
                    raise NotFound("No such session")
                elif note.get("message_id") != message_id:
                    continue
                elif note["kind"] != "event":
                    yield sse.event(note["kind"], sse.payload(note))
                    continue
                outcome = await self._turns.recorded(ticket.message)
            yield sse.event(f"turn.{outcome.status}", _ended(ticket, outcome))
        except NotFound:
            yield sse.event(DELETED, b"{}")


async def waiting(turns: Turns, ticket: Ticket) -> bytes:
    """The answer to a turn that has no result yet."""
    status = MessageStatus.RUNNING if ticket.turn is not None else await turns.state(ticket.message)
    running = status is MessageStatus.RUNNING
    position = 0 if running else ticket.position or 1
    return orjson.dumps(
        {
            "uuid": ticket.message.session,
            "status": "running" if running else "queued",
            "message": _sentence(ticket, running=running, position=position),
            "message_id": ticket.message.id,
            "position": position,
        }
    )


def _new_message(session: str, text: str, actor: Actor, options: ChatOptions) -> NewMessage:
    key = options.idempotency_key
    digest = hashlib.sha256(text.encode()).hexdigest() if key is not None else None
    return NewMessage(new_id(), session, text, caller_of(actor), key, digest)


def caller_of(actor: Actor) -> str:
    """Whose Idempotency-Keys they are."""
    return actor.caller if actor.user is None else f"{actor.caller}|{actor.user}"


def _message_of(body: bytes) -> str:
    data = checked_json(body)
    if not isinstance(data, dict):
        raise InvalidInput("the body must be a JSON object with a message")
    text = data.get("message")
    if not isinstance(text, str):
        raise InvalidInput("message: must be a string", "message")
    if not text:
        raise InvalidInput("message: must have 1 character at least", "message")
    if len(text) > MAX_MESSAGE_BYTES or (len(text) * 4 > MAX_MESSAGE_BYTES and len(text.encode()) > MAX_MESSAGE_BYTES):
        raise TooLarge("message: must be 1 MiB of UTF-8 at most")
    return text


def options_of(headers: dict[bytes, bytes]) -> ChatOptions:
    """InvalidInput names the header."""
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
    """``wait=N`` of a Prefer header, capped; other preferences are ignored."""
    for part in value.decode("latin-1").replace(";", ",").split(","):
        name, _, number = part.strip().partition("=")
        if name.strip().lower() == "wait":
            digits = number.strip().strip('"')
            if not (digits.isascii() and digits.isdigit()):
                raise InvalidInput("Prefer: wait must be a whole number of seconds", "Prefer")
            return min(float(digits), MAX_WAIT)
    return None


def _ended(ticket: Ticket, outcome: Outcome) -> bytes:
    """The answer to a turn that has its result; the pod's JSON goes through unread."""
    head = b'{"uuid":"%b","status":"%b",' % (ticket.message.session.encode(), outcome.status.encode())
    tail = b',"message_id":"%b"}' % ticket.message.id.encode()
    if outcome.response is not None:
        return head + b'"pod_response":' + outcome.response.encode() + tail
    return head + b'"error":' + orjson.dumps(outcome.error) + tail


def _sentence(ticket: Ticket, *, running: bool, position: int) -> str:
    if running:
        return "The agent is working on your message."
    if position > 1:
        return f"Your message waits; {position - 1} before it."
    return "Your message is next." if ticket.awake else "The pod is waking up; your message is next."
