"""The credentials of requests to Session Manager: the token of the running turn, or a key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

KEY_VARIABLE = "SESSION_MANAGER_KEY"
TOKEN_HEADER = "X-Session-Token"  # noqa: S105  the name of a header

_token: ContextVar[str] = ContextVar("session_token", default="")


@contextmanager
def use_token(token: str) -> Iterator[None]:
    """Send this ``X-Session-Token`` with every request in this context, and in tasks that are started in it."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


def credentials(key: str | None) -> dict[str, str]:
    """Return the headers: the token of the turn, or else ``key``, or else the key in the environment."""
    token = _token.get()
    if token:
        return {TOKEN_HEADER: token}
    key = key or os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}
