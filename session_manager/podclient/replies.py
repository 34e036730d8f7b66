"""What a pod said, as JSON text that every database, parser and event stream takes.

A JSON object stays what it is; anything else becomes ``{"reply": …}``.  Lone surrogates and bytes that are no UTF-8
become U+FFFD, ``NaN`` and ``Infinity`` become null.  Line breaks between tokens become spaces, so that the text fits on
one line of a stream.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def reply_text(body: bytes) -> str:
    """A reply's body as the text of a JSON object."""
    text, value = json_text(body)
    if text is None:
        return _dump({"reply": body.decode("utf-8", "replace")})
    return text if isinstance(value, dict) else f'{{"reply": {text}}}'


def delta_text(data: str) -> tuple[str, str]:
    """A streamed piece as JSON text, and the words in it: its ``text``, or the string that it is."""
    text, value = json_text(data.encode())
    if text is None:
        text, value = _dump({"text": data}), data
    words = value.get("text") if isinstance(value, dict) else value
    return text, words if isinstance(words, str) else ""


def text_reply(words: str) -> str:
    return _dump({"reply": words})


def json_text(body: bytes) -> tuple[str | None, Any]:
    """The same JSON on one line, and its value; (None, None) when it is no JSON."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _mended(body)
    if b"\n" in body or b"\r" in body:  # they stand between tokens only: in a string they are escaped
        body = body.translate(_LINE_BREAKS)
    return body.decode(), value


def _mended(body: bytes) -> tuple[str | None, Any]:
    """What Python's own, more patient parser makes of it."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), parse_constant=lambda name: None)
        return _dump(value), value
    except (ValueError, RecursionError):
        return None, None


def _dump(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
