"""Answers of pods: what their status means, and their body as JSON text that every database, parser and stream takes.

A JSON object is passed on as it is; anything else becomes ``{"reply": …}``.  Lone surrogates and bytes that are not
UTF-8 become U+FFFD, ``NaN`` and ``Infinity`` become null.  Line breaks between tokens become spaces, so that the text
fits on one line of a stream.

Whatever is longer than ``ALWAYS_FITS`` has bounds beside its length, and is best parsed beside the event loop.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from session_manager.domain.errors import PodBusy, PodDied, PodMisdirected, PodRejected
from session_manager.domain.json_bounds import ALWAYS_FITS, excess

MAX_EXCERPT = 200
SHORTEST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 30.0
DEFAULT_PAUSE = 1.0
NO_END = (
    "the answer ended with the connection, so it may have been cut short; "
    "a pod must declare the end of its answer by Content-Length or Transfer-Encoding: chunked"
)

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\ufffd]+")
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def check_answer(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Return for 2xx with a readable body. PodBusy for 503, PodMisdirected for 421, PodRejected for all else."""
    if status == 503:
        raise PodBusy("the pod is busy", retry_after(headers.get(b"retry-after", b"")))
    if status == 421:
        raise PodMisdirected
    if 300 <= status < 400:
        raise PodRejected(f"the pod answered {status}, a redirect; redirects are not followed")
    if not 200 <= status < 300:
        words = excerpt(body)
        raise PodRejected(f"the pod answered {status}{words and ': '}{words}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise PodRejected("the pod's answer is compressed, although the request did not allow it")


def retry_after(value: bytes) -> float:
    """Return the seconds to wait, from a number or a date, within bounds."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return DEFAULT_PAUSE
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, SHORTEST_PAUSE), LONGEST_PAUSE)


def excerpt(body: bytes) -> str:
    """Return the beginning of the pod's own error message, on one line."""
    text = body[: 16 * MAX_EXCERPT].decode("utf-8", "replace")
    try:
        value = orjson.loads(body) if len(body) <= ALWAYS_FITS else None
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        words = (value.get(name) for name in ("error", "detail", "message"))
        text = next((word for word in words if isinstance(word, str)), text)
    return _UNPRINTABLE.sub(" ", text[: 16 * MAX_EXCERPT]).strip()[:MAX_EXCERPT]


def reply_text(body: bytes, *, framed: bool = True) -> str:
    """Return a reply's body as the text of a JSON object.

    ``framed``: see ``PodConnection``; PodDied if it is False and the body is not complete JSON.
    """
    text, value = json_text(body)
    if text is None:
        if not framed:
            raise PodDied(NO_END)
        return _dump({"reply": body.decode("utf-8", "replace")})
    return text if isinstance(value, dict) else f'{{"reply": {text}}}'


def delta_text(data: str) -> tuple[str, str]:
    """Return a streamed delta as JSON text, and its words: its ``text``, or the string that it is."""
    text, value = json_text(data.encode())
    if text is None:
        text, value = _dump({"text": data}), data
    words = value.get("text") if isinstance(value, dict) else value
    return text, words if isinstance(words, str) else ""


def text_reply(words: str) -> str:
    return _dump({"reply": words})


def json_text(body: bytes) -> tuple[str | None, Any]:
    """Return the same JSON on one line, and its value; (None, None) if it is not JSON.

    PodRejected: it would take long to parse.
    """
    bound = excess(body)
    if bound is not None:
        raise PodRejected(f"JSON of the pod must have {bound}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _repaired(body)
    if b"\n" in body or b"\r" in body:  # between tokens only: inside a string they are escaped
        body = body.translate(_LINE_BREAKS)
    return body.decode(), value


def _repaired(body: bytes) -> tuple[str | None, Any]:
    """Parse it with Python's own, more tolerant parser."""
    try:
        value = json.loads(body.decode("utf-8-sig", "replace"), parse_constant=lambda name: None)
        text = _dump(value)
        orjson.loads(text)  # fails below 1,024 levels, while Python's own limit depends on its version
        return text, value
    except (ValueError, RecursionError):
        return None, None


def _dump(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
