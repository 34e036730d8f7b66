"""Reading request bodies: bounded, strict UTF-8 JSON, without NUL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from starlette.types import Receive

from session_manager.domain.errors import InvalidInput, TooLarge

# A message of 1 MiB may be six times as long when every character is escaped.
MAX_CHAT_BODY = 6 * 1024 * 1024 + 64 * 1024
MAX_BODY = 64 * 1024


class ClientGone(Exception):
    """The caller hung up before its request was complete."""


async def read_body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """Return the whole body. Raises TooLarge over ``limit`` bytes, and ClientGone if it stays incomplete."""
    length = headers.get(b"content-length")
    if length is not None and length.isdigit():
        _check_size(int(length), limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")  # the usual case, without a copy
        _check_size(len(whole), limit)
        return whole
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        _check_size(len(body), limit)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body must be at most {limit} bytes")


def checked_json(body: bytes) -> Any:
    """Return the JSON value. Raises InvalidInput if it is not JSON or contains a lone surrogate or a NUL."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = "contains a lone surrogate" if "surrogate" in str(error) else "is not JSON"
        raise InvalidInput(f"the body {reason}") from None
    if b"\\u0000" in body and has_nul(data):
        raise InvalidInput("the body contains a NUL character")
    return data


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
