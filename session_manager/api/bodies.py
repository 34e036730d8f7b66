"""Reading request bodies: bounded, strict UTF-8 JSON, no NUL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import orjson

from session_manager.domain.errors import InvalidInput, TooLarge

# A message of 1 MiB may be six times as long when every character is escaped.
MAX_CHAT_BODY = 6 * 1024 * 1024 + 64 * 1024
MAX_BODY = 64 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The caller hung up before its request was complete."""


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The whole body. TooLarge past ``limit`` bytes, ClientGone when it never became complete."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise TooLarge(f"the body must be {limit} bytes at most")
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        if len(whole) > limit:
            raise TooLarge(f"the body must be {limit} bytes at most")
        return whole
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise TooLarge(f"the body must be {limit} bytes at most")
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def checked_json(body: bytes) -> Any:
    """The JSON value. InvalidInput for anything else, for a lone surrogate and for a NUL anywhere in it."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = "has a lone surrogate" if "surrogate" in str(error) else "is not JSON"
        raise InvalidInput(f"the body {reason}") from None
    if b"\\u0000" in body and has_nul(data):
        raise InvalidInput("the body has a NUL character")
    return data


def has_nul(data: Any) -> bool:
    return any(isinstance(value, str) and "\0" in value for value in scalars(data))


def scalars(data: Any) -> Iterator[Any]:
    """Every key and value that holds no other, without recursion: JSON may be nested too deep for that."""
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
