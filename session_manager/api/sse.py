"""Server-sent events over plain ASGI."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from starlette.types import Receive, Send

from session_manager.activity.protocol import START_FAILED
from session_manager.aio.tasks import first_of
from session_manager.api import answers
from session_manager.domain.message import Place
from session_manager.domain.session import Failure
from session_manager.domain.values import Json

_LINE_SEPARATORS = [(each.encode(), b"\\u%04x" % ord(each)) for each in ("\x85", "\u2028", "\u2029")]
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


async def stream(pieces: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> None:
    """Send the pieces until they end or the client goes, then close them."""
    await first_of(_gone(receive), _send_all(pieces, send))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_all(pieces: AsyncGenerator[bytes, None], send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    async with aclosing(pieces) as opened:
        async for piece in opened:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
