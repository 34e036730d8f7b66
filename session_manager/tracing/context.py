"""The trace context that a caller sends, as the W3C recommendation "Trace Context" defines its two headers.

It travels with the message: from the request into the database, from there to the turn, and to the pod. ``current`` is
the context of the running task, for log lines and for calls that do not take it as a parameter.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import NamedTuple, Self

# Later versions may append fields, which are ignored. An id of zeros is invalid.
_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-"
    r"(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
_STATE = re.compile(r"[\x20-\x7e]+")
LONGEST = 256  # characters of a traceparent; those of version 00 have 55
LONGEST_STATE = 512  # characters; the least that must be passed on


class Trace(NamedTuple):
    """``trace_id`` and ``span_id`` are lower-case hex. ``flags``: 1 if the caller records the trace.

    ``state`` is the tracestate of the caller, or empty.
    """

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @classmethod
    def parse(cls, parent: str, state: str = "") -> Self | None:
        """Return the context in a traceparent, or None if it is malformed. A malformed tracestate is dropped."""
        found = _PARENT.fullmatch(parent) if len(parent) <= LONGEST else None
        if found is None or (found["version"] == "00" and found["rest"]):
            return None
        kept = state if len(state) <= LONGEST_STATE and _STATE.fullmatch(state) else ""
        return cls(found["trace"], found["span"], int(found["flags"], 16) & 1, kept)

    @classmethod
    def of_headers(cls, headers: dict[bytes, bytes]) -> Self | None:
        """Return the context that a request carries, or None."""
        parent = headers.get(b"traceparent")
        if parent is None:
            return None
        return cls.parse(parent.decode("latin-1"), headers.get(b"tracestate", b"").decode("latin-1"))

    @classmethod
    def stored(cls, text: str | None) -> Self | None:
        """Return the context of a stored ``text``, or None."""
        if not text:
            return None
        parent, _, state = text.partition(" ")
        return cls.parse(parent, state)

    @property
    def parent(self) -> str:
        """The value of the header traceparent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @property
    def text(self) -> str:
        """Both headers in one line, for storage."""
        return f"{self.parent} {self.state}".rstrip()


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
