"""One request as its handler gets it, once its caller is known, and its body: bounded, strict UTF-8 JSON, no NUL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, Protocol

import orjson
from fastapi import Depends, Request
from starlette.types import Receive

from session_manager.api.failed_keys import FailedKeys
from session_manager.api.limits import Limit, Limits
from session_manager.api.metrics import Metrics
from session_manager.api.openapi import Documents
from session_manager.api.sse import Shared
from session_manager.domain.access import Access, Anonymous, Caller, PodTurn, UserCaller
from session_manager.domain.errors import Forbidden, InvalidInput, TooLarge
from session_manager.domain.json_bounds import excess
from session_manager.domain.values import LONGEST_ID
from session_manager.people.room import Share
from session_manager.wiring.services import Services

# A message of 1 MiB may be six times as long when every character is escaped.
MAX_CHAT_BODY = 6 * 1024 * 1024 + 64 * 1024
MAX_BODY = 64 * 1024
# Bytes up to which a body is not counted, since the requests are. Routes without a body drop as much of one.
SMALL_BODY = 64 * 1024


class Parts(NamedTuple):
    """The parts that all requests of a front door share."""

    services: Services
    limits: Limits
    failed_keys: FailedKeys
    metrics: Metrics
    documents: Documents
    events: Shared


class Held(Protocol):
    """A connection. ``holder``: under which its unread answers count."""

    holder: str | None

    def make_room(self) -> None:
        """Cut off the connection that has not read for the longest time, if one waits for its reader."""


@dataclass(slots=True)
class Call:
    """``params`` are those of the path. ``limit`` is that of the route.

    ``holder``: under which the front door counts what it holds for the request: ``held`` bytes of it now.
    ``answer``: the bytes of a long answer that is held as a whole.
    ``connection`` has the same one, for its unread answers.
    """

    parts: Parts
    limit: Limit | None
    caller: Caller
    headers: dict[bytes, bytes] = field(repr=False)
    params: dict[str, str]
    holder: str
    body: bytes = field(default=b"", repr=False)
    held: int = 0
    answer: int = 0
    streams: bool = False
    connection: Held | None = None

    @property
    def services(self) -> Services:
        return self.parts.services

    @property
    def share(self) -> Share:
        """The room of the caller, for what waits on its streams."""
        return Share(self.services.room, self.holder)

    @property
    def reads(self) -> asyncio.Semaphore:
        """The turns of the caller at reading what may be large."""
        return self.services.room.reads(self.holder)

    def hold(self, size: int) -> None:
        """Hold ``size`` bytes in all until the request ends. Raises RateLimited or Overloaded without room for them."""
        self.services.room.take(self.holder, size - self.held)
        self.held = size

    def hold_answer(self, size: int) -> None:
        """Hold ``size`` more bytes, of the answer. Raises RateLimited or Overloaded without room for them."""
        self.held += self.services.room.take_answer(self.holder, size)

    def free_to(self, held: int) -> None:
        """Free what is held beyond these bytes."""
        self.services.room.free(self.holder, self.held - held)
        self.held = held

    def _held_by(self, holder: str) -> None:
        """Count what is held for the request under another holder. Raises RateLimited without room for it there."""
        self.services.room.move(self.holder, holder, self.held)
        self.holder = holder
        if self.connection is not None:
            self.connection.holder = holder

    def begin_stream(self) -> None:
        """The answer is a stream. Raises RateLimited if its caller has too many."""
        self.services.room.begin_stream(self.holder)
        self.streams = True

    def end(self) -> None:
        """Free what the front door holds for the request. Connections keep it until their next request."""
        room = self.services.room
        if self.held:
            room.free(self.holder, self.held)
        (room.end_stream if self.streams else room.leave)(self.holder)
        self.body = b""

    @property
    def access(self) -> Access:
        return self.caller.access

    @property
    def user_caller(self) -> UserCaller:
        """The caller of a route that takes neither tokens of turns nor anonymous callers."""
        if isinstance(self.caller, (PodTurn, Anonymous)):
            raise Forbidden
        return self.caller

    async def counted_for(self, user: str) -> UserCaller:
        """Return the caller as it acts for the user whom the body names.

        A service is limited per user, so its request could not be counted before the body was read.
        """
        caller = self.user_caller
        if self.limit is None or not caller.names_users:
            return caller
        counted = caller.acting_for(user[:LONGEST_ID])  # the id was not checked yet
        self._held_by(counted.holder(""))
        await self.parts.limits.count(self.limit, counted.limit_key(""))
        return caller.acting_for(user)


async def _call(request: Request) -> Call:
    call: Call = request.scope["call"]
    return call


CurrentCall = Annotated[Call, Depends(_call)]


class ClientGone(Exception):
    """The caller hung up before its request was complete."""


def check_length(headers: dict[bytes, bytes], limit: int) -> None:
    """Raise TooLarge if the request says that its body has more than ``limit`` bytes."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit():
        _check_size(int(length), limit)


async def read_body(call: Call, receive: Receive, limit: int) -> bytes:
    """Return the whole body.

    Raises TooLarge over ``limit`` bytes, RateLimited and Overloaded without room for them, and ClientGone if the body
    stays incomplete.
    """
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        _check_size(size, limit)
        if size > SMALL_BODY:
            call.hold(size)
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)  # without a copy in the usual case, of one piece


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body must be at most {limit} bytes")


def checked_json(body: bytes) -> Any:
    """Return the JSON value.

    Raises InvalidInput if it is not JSON in UTF-8 or contains a lone surrogate or a NUL, and TooLarge if it would take
    long to parse. Long bodies are best parsed beside the event loop.
    """
    check_bounds(body)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body {_fault_of(body, error)}") from None
    if b"\\u0000" in body and has_nul(data):
        raise InvalidInput("the body contains a NUL character")
    return data


def check_bounds(body: bytes) -> None:
    """Raise TooLarge for a body with too many values, or too many digits in long numbers."""
    bound = excess(body)
    if bound is not None:
        raise TooLarge(f"the body must have {bound}")


def _fault_of(body: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        body.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return "contains a lone surrogate" if "surrogate" in str(error) else "is not JSON"


def has_nul(data: Any) -> bool:
    return any(isinstance(value, str) and "\0" in value for value in scalars(data))


def scalars(data: Any) -> Iterator[Any]:
    """Yield every key and every value that contains no other, without recursion: JSON may be nested too deep for it."""
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        else:
            yield value
