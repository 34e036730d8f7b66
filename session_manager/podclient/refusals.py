"""What a pod's status other than 2xx means, and its words for a person."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from session_manager.domain.errors import PodBusy, PodMisdirected, PodRejected

MAX_EXCERPT = 200
SHORTEST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 30.0
DEFAULT_PAUSE = 1.0
CUT_SHORT = "the pod ended its answer by closing the connection, and what came is not complete"

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\ufffd]+")


def check_answer(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """Return for 2xx with a body that can be read. PodBusy (503), PodMisdirected (421), PodRejected (all else)."""
    if status == 503:
        raise PodBusy("the pod is busy", retry_after(headers.get(b"retry-after", b"")))
    if status == 421:
        raise PodMisdirected
    if 300 <= status < 400:
        raise PodRejected(f"the pod answered {status}, a redirect, and those are not followed")
    if not 200 <= status < 300:
        raise PodRejected(f"the pod answered {status}{_colon(excerpt(body))}")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise PodRejected("the pod's answer is compressed, and it was not asked for that")


def retry_after(value: bytes) -> float:
    """Seconds to wait, from a number or a date, within bounds."""
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
    """The beginning of what the pod said is wrong, on one line."""
    text = body[: 16 * MAX_EXCERPT].decode("utf-8", "replace")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        words = (value.get(name) for name in ("error", "detail", "message"))
        text = next((word for word in words if isinstance(word, str)), text)
    return _UNPRINTABLE.sub(" ", text[: 16 * MAX_EXCERPT]).strip()[:MAX_EXCERPT]


def _colon(words: str) -> str:
    return f": {words}" if words else ""
