"""HTTP to the front door, from whatever event loops an ADK program has.

``Runner.run`` makes one for each call, and connections of an event loop end with it.  So they belong to threads of
their own, which an agent that fills the loop's with its tools does not hold up either.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from session_manager.adk.credentials import credentials

URL_VARIABLE = "SESSION_MANAGER_URL"
TIMEOUT = 30.0  # seconds
AT_ONCE = 16  # requests
NOTHING: Mapping[str, Any] = {}


class Refused(Exception):
    """An answer other than 2xx. ``detail``: its words for a person."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Session Manager answered {status}: {detail}")
        self.status = status
        self.detail = detail


def base_url(uri: str) -> str:
    """``session-manager://host:port`` is ``http://host:port``, ``…+https`` https; without a host $SESSION_MANAGER_URL.

    ValueError where there is neither, or a password stands in it.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise ValueError("no credential belongs into the address of Session Manager; set SESSION_MANAGER_KEY")
    if parts.netloc:
        scheme = parts.scheme.rpartition("+")[2]
        return f"{'https' if scheme == 'https' else 'http'}://{parts.netloc}{parts.path.rstrip('/')}"
    url = os.environ.get(URL_VARIABLE)
    if not url:
        raise ValueError(f"{uri!r} names no host, and {URL_VARIABLE} is not set")
    return url.rstrip("/")


class Client:
    """``key``: instead of the one in the environment; a turn's token wins over both."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url
        self._key = key
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="session-manager")

    async def call(
        self, method: str, path: str, body: bytes | None = None, query: Mapping[str, Any] = NOTHING
    ) -> httpx.Response:
        """Refused unless it is 2xx. httpx.TransportError: nobody answered."""
        headers = {**credentials(self._key), "Content-Type": "application/json"}
        params = {name: value for name, value in query.items() if value is not None}
        ask = partial(self._http.request, method, self._url + path, content=body, headers=headers, params=params)
        response = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        if not response.is_success:
            raise Refused(response.status_code, _detail(response))
        return response

    def close(self) -> None:
        self._threads.shutdown()
        self._http.close()


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
