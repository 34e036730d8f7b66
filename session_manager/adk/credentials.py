"""What a request to Session Manager is authorised by: the token of the turn that runs, or a key."""

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
    """Within it, and in every task begun in it, sessions are read and written with this ``X-Session-Token``."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


def credentials(key: str | None) -> dict[str, str]:
    """Headers. The token of a turn wins over ``key``, and that over the one in the environment."""
    token = _token.get()
    if token:
        return {TOKEN_HEADER: token}
    key = key or os.environ.get(KEY_VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}
