"""Server-sent events over plain ASGI.

Many may watch one session. They share the bytes of each event, and each holds a slice of it on its way to the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import aclosing
from weakref import WeakValueDictionary

import orjson
from starlette.types import Receive, Send

from session_manager.activity.protocol import LAGGED, START_FAILED, FeedNote, Lagging, LiveNote
from session_manager.aio.tasks import first_of
from session_manager.api import answers
from session_manager.domain.message import Place
from session_manager.domain.session import Failure
from session_manager.domain.values import Json
from session_manager.people.room import Share

_LINE_SEPARATORS = [(each.encode(), b"\\u%04x" % ord(each)) for each in ("\x85", "\u2028", "\u2029")]
SLICE = 64 * 1024  # bytes that one connection holds of a longer event
SIGN_OF_LIFE = b": still here\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),
]


def event(kind: str, data: bytes, place: Place | None = None) -> bytes:
    """Return one event. ``data`` is JSON in one line. Stored events have a place, from which a client resumes."""
    identity = b"id: %b\n" % str(place).encode() if place is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (identity, kind.encode(), one_line(data))


def one_line(data: bytes) -> bytes:
    """Return JSON without the characters at which some clients split lines, though neither JSON nor SSE does."""
    for separator, escape in _LINE_SEPARATORS:
        if separator in data:
            data = data.replace(separator, escape)
    return data


def payload(note: Json) -> bytes:
    """Return a live note as the data of its event; a delta's JSON is passed on as it is."""
    fields = {name: value for name, value in note.items() if name != "kind"}
    if note["kind"] == "delta":
        fields["data"] = orjson.Fragment(note["data"])
    return orjson.dumps(fields)


def failed_start(failure: Failure) -> bytes:
    """Return the event for everybody who waits for a pod that cannot start."""
    return event(START_FAILED, orjson.dumps(answers.failure(failure)))


def live(note: FeedNote) -> bytes:
    """Return the event of a live note, made once for all its watchers."""
    if not isinstance(note, LiveNote):
        return event(note["kind"], payload(note))
    if note.encoded is None:
        note.encoded = event(note["kind"], payload(note))
    return note.encoded


class Shared:
    """Bytes that several streams send at the same time, made once. They are kept as long as one of them holds them."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[Hashable, asyncio.Future[bytes]] = WeakValueDictionary()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[bytes]]) -> asyncio.Future[bytes]:
        """Return a future that is done. ``make`` is called for the first that asks for this key."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = asyncio.ensure_future(make())
        await asyncio.shield(made)
        return made


async def stream(pieces: AsyncGenerator[bytes, None], receive: Receive, send: Send, share: Share) -> None:
    """Send the pieces until they end or the client goes, then close them.

    ``share``: the room of the caller. Without room for a long piece, or for the notes that wait, the client gets an
    event that says so, and the stream ends.
    """
    await first_of(_gone(receive), _send_all(pieces, send, share))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_all(pieces: AsyncGenerator[bytes, None], send: Send, share: Share) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    async with aclosing(pieces) as opened:
        try:
            async for piece in opened:
                if len(piece) <= SLICE:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                else:
                    await _send_long(piece, send, share)
        except Lagging:
            await send({"type": "http.response.body", "body": _LAGGED, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_long(piece: bytes, send: Send, share: Share) -> None:
    if not share.take(len(piece)):
        raise Lagging
    try:
        for start in range(0, len(piece), SLICE):
            await send({"type": "http.response.body", "body": piece[start : start + SLICE], "more_body": True})
    finally:
        share.free(len(piece))


_LAGGED = event(LAGGED["kind"], b'{"detail":"this stream was not read fast enough; resume it, or ask for the result"}')
