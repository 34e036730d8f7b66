"""HTTP to the front door, from any event loop of an ADK program.

``Runner.run`` makes an event loop for each call, and connections of an event loop end with it. So requests run in
threads of their own. An agent whose tools fill the threads of the loop does not delay them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

URL_VARIABLE = "SESSION_MANAGER_URL"
KEY_VARIABLE = "SESSION_MANAGER_KEY"
TOKEN_HEADER = "X-Session-Token"  # noqa: S105  the name of a header
TIMEOUT = 30.0  # seconds
MAX_REQUESTS = 16  # at once
NOTHING: Mapping[str, Any] = {}

_token: ContextVar[str] = ContextVar("session_token", default="")


class Rejected(Exception):
    """An answer other than 2xx. ``detail`` is its sentence for a person."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Session Manager answered {status}: {detail}")
        self.status = status
        self.detail = detail


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


def base_url(uri: str) -> str:
    """Return ``http://host:port`` for ``session-manager://host:port``, or https for ``session-manager+https://…``.

    Without a host, return $SESSION_MANAGER_URL. Raises ValueError if that is not set, or the URI contains a credential.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ValueError("invalid address of Session Manager; put the credential into SESSION_MANAGER_KEY instead")
    if parts.netloc:
        scheme = parts.scheme.rpartition("+")[2]
        return f"{'https' if scheme == 'https' else 'http'}://{parts.netloc}{parts.path.rstrip('/')}"
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise ValueError(f"invalid address {uri!r}; expected a host, or {URL_VARIABLE} in the environment")
    return url.rstrip("/")


class Client:
    """Calls one front door. ``key`` replaces the one in the environment; the token of a turn replaces both."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._key = key
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False)
        self._threads = ThreadPoolExecutor(MAX_REQUESTS, thread_name_prefix="session-manager")

    async def call(
        self, method: str, path: str, body: bytes | None = None, query: Mapping[str, Any] = NOTHING
    ) -> httpx.Response:
        """Return the answer to a request. Raises Rejected if it is not 2xx, httpx.TransportError if there is none."""
        headers = {**credentials(self._key), "Content-Type": "application/json"}
        params = {name: value for name, value in query.items() if value is not None}
        ask = partial(self._http.request, method, self._url + path, content=body, headers=headers, params=params)
        response = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        if not response.is_success:
            raise Rejected(response.status_code, _detail(response))
        return response

    def close(self) -> None:
        self._threads.shutdown()
        self._http.close()


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
