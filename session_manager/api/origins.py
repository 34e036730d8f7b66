"""Headers of all answers that tell browsers what to do with them, and pages of other origins that may call.

No origin is allowed unless CORS_ORIGINS lists it. Then its pages may read answers, and ask before they send (a
preflight), which needs no key. Cookies are never involved: a page has to have a key and send it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from starlette.responses import Response
from starlette.types import Scope

Pairs = Iterable[tuple[bytes, bytes]]

# An answer that is shown as a page runs nothing, fits into no frame, and stays in no cache.
STANDARD = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_NAMES = frozenset(name for name, _ in STANDARD)
VARY = (b"vary", b"Origin")
EXPOSED = b"Link, Location, Preference-Applied, Retry-After, WWW-Authenticate, X-Next-Cursor, X-Session-Id"
SENT = (
    "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, traceparent, tracestate, "
    "X-API-Key, X-User-Id"
)
PREFLIGHT_ANSWER = Response(
    status_code=204,
    headers={
        "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE",
        "access-control-allow-headers": SENT,
        "access-control-max-age": "600",  # seconds; Chrome keeps it for two hours at most
    },
)


def completed(headers: Pairs, more: Pairs) -> list[tuple[bytes, bytes]]:
    """Return the headers with the standard ones that they lack, and ``more``."""
    whole = list(headers)
    for name, _ in whole:
        if name in _NAMES:
            present = {name for name, _ in whole}
            return [*whole, *(pair for pair in STANDARD if pair[0] not in present), *more]
    return [*whole, *STANDARD, *more]


class Origins:
    """``allowed``: origins as browsers send them, such as ``https://app.example``."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = frozenset(origin.encode() for origin in allowed)

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Return what an answer says about the origin of its request."""
        origin = self._allowed_of(scope)
        if origin is None:
            return [VARY]
        return [VARY, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED)]

    def asks(self, scope: Scope) -> bool:
        """Return True for the preflight of an allowed origin."""
        asked = any(name == b"access-control-request-method" for name, _ in scope["headers"])
        return asked and self._allowed_of(scope) is not None

    def _allowed_of(self, scope: Scope) -> bytes | None:
        given = [value for name, value in scope["headers"] if name == b"origin"]
        return given[0] if len(given) == 1 and given[0] in self.allowed else None
