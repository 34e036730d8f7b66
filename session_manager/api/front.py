"""The outermost layer: who calls, the chat route before everything else, bounded bodies, one log line per request.

Plain ASGI, because the hot path passes through it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from session_manager.api import problems
from session_manager.api.bodies import MAX_BODY, ClientGone, checked_json, read_body
from session_manager.api.chat import ChatRoute
from session_manager.api.identity import Identity, header_map, refuse_foreign_page
from session_manager.api.metrics import Metrics
from session_manager.api.paths import SESSION_PATTERN
from session_manager.domain.errors import SessionManagerError, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

CHAT = re.compile("^/session/(" + SESSION_PATTERN.strip("^$") + r")/chat\Z")
OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/docs", "/openapi.json"})
CLOSE = (b"connection", b"close")
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Front:
    """``app`` serves everything but the chat route. ``leaving``: answers end their connections."""

    def __init__(
        self, app: App, chat: ChatRoute, identity: Identity, metrics: Metrics, leaving: Callable[[], bool]
    ) -> None:
        self._app = app
        self._chat = chat
        self._identity = identity
        self._metrics = metrics
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        complete = False

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._leaving():
                    message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            else:
                complete = not message.get("more_body", False)
            await send(message)

        try:
            await self._serve(scope, receive, noting)
        except ClientGone:
            status = 499
        except (Exception, asyncio.CancelledError) as error:
            if not complete:  # else FastAPI has answered and told the log, and raises it all the same
                await self._end(noting, _in_words(error), started=status != 0)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    @staticmethod
    async def _end(send: Send, error: SessionManagerError, *, started: bool) -> None:
        if not started:
            await _refuse(send, error)
        else:
            # A stream that cannot go on ends like any other; its client resumes elsewhere or later.
            await send({"type": "http.response.body", "body": b""})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers_map"] = header_map(scope["headers"])
        path = scope["path"]
        if self._identity.open:
            refuse_foreign_page(headers)
        client = scope.get("client")
        try:
            scope["actor"] = self._identity.actor(headers, client[0] if client else "")
        except Unauthenticated:
            if path not in OPEN_PATHS:
                raise
            scope["actor"] = self._identity.anonymous(headers, client[0] if client else "")
        if scope["method"] == "POST":
            chat = CHAT.match(path)
            if chat is not None:
                await self._chat(scope, receive, send, chat[1].lower())
                return
        if scope["method"] in WITH_BODY:
            receive = await _checked(receive, headers)
        await self._app(scope, receive, send)

    def _note(self, scope: Scope, status: int, duration: float) -> None:
        self._metrics.request(scope["method"], status, duration)
        if log.isEnabledFor(logging.DEBUG) or status >= 500:
            level = logging.WARNING if status >= 500 else logging.DEBUG
            extra = {"event": "http.request", "status": status, "duration": round(duration, 4)}
            log.log(level, "%s %s", scope["method"], scope["path"], extra=extra)


async def _checked(receive: Receive, headers: dict[bytes, bytes]) -> Receive:
    """Read and check the body, and give it again to whoever asks."""
    body = await read_body(receive, headers, MAX_BODY)
    if body:
        checked_json(body)
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _in_words(error: BaseException) -> SessionManagerError:
    """What the caller reads. Of a mistake of ours it reads nothing, and the log all."""
    if isinstance(error, SessionManagerError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("the server stops; try again")  # and its patience is over
    log.error("unexpected error", exc_info=error, extra={"event": "request.crashed"})
    return SessionManagerError("something went wrong; the log has the details")


async def _refuse(send: Send, error: SessionManagerError) -> None:
    status, headers, body = problems.of(error)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
