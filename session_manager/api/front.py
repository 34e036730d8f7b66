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
from session_manager.api.adk import errors as adk_errors
from session_manager.api.adk.bodies import MAX_ADK_BODY
from session_manager.api.adk.paths import OPEN as ADK_OPEN
from session_manager.api.adk.paths import is_adk, takes_token
from session_manager.api.bodies import MAX_BODY, ClientGone, checked_json, read_body
from session_manager.api.chat import ChatRoute
from session_manager.api.metrics import Metrics
from session_manager.api.paths import SESSION_PATTERN
from session_manager.domain.errors import Forbidden, SessionManagerError, Unauthenticated, Unavailable
from session_manager.people.identity import Actor, Identity, header_map, refuse_foreign_page
from session_manager.people.tokens import Tokens

log = logging.getLogger(__name__)

CHAT = re.compile("^/session/(" + SESSION_PATTERN.strip("^$") + r")/chat\Z")
OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/docs", "/openapi.json"}) | ADK_OPEN
UNGUARDED = OPEN_PATHS | {"/metrics"}
CLOSE = (b"connection", b"close")
WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refusal = tuple[int, dict[str, str], bytes]  # status, headers, body


class Front:
    """``adk`` serves ADK's routes, ``app`` the others but for the chat. ``leaving``: answers end their connections.

    ``admit`` raises for a method that this front door must not serve now.
    """

    def __init__(
        self,
        app: App,
        adk: App,
        chat: ChatRoute,
        identity: Identity,
        tokens: Tokens,
        metrics: Metrics,
        leaving: Callable[[], bool],
        admit: Callable[[str], Awaitable[None]],
    ) -> None:
        self._app = app
        self._adk = adk
        self._tokens = tokens
        self._chat = chat
        self._identity = identity
        self._metrics = metrics
        self._leaving = leaving
        self._admit = admit

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
                refusal = _refusal(_in_words(error), adk=is_adk(scope["path"]))
                await self._end(noting, refusal, started=status != 0)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    @staticmethod
    async def _end(send: Send, refusal: Refusal, *, started: bool) -> None:
        if not started:
            await _refuse(send, *refusal)
        else:
            # A stream that cannot go on ends like any other; its client resumes elsewhere or later.
            await send({"type": "http.response.body", "body": b""})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers_map"] = header_map(scope["headers"])
        path = scope["path"]
        if self._identity.open:
            refuse_foreign_page(headers)
        if path not in UNGUARDED:
            await self._admit(scope["method"])
        scope["actor"] = await self._actor(scope, headers)
        if scope["method"] == "POST":
            chat = CHAT.match(path)
            if chat is not None:
                await self._chat(scope, receive, send, chat[1].lower())
                return
        adk = is_adk(path)
        if scope["method"] in WITH_BODY:
            # ADK's routes look at their bodies themselves: what is wrong in them is told in ADK's form.
            receive = await (_bounded(receive, headers) if adk else _checked(receive, headers))
        await (self._adk if adk else self._app)(scope, receive, send)

    async def _actor(self, scope: Scope, headers: dict[bytes, bytes]) -> Actor:
        client = scope.get("client")
        peer = client[0] if client else ""
        token = headers.get(b"x-session-token")
        if token is not None:
            # Whatever key comes with it: who shows a token gets what it is good for, and no more.
            if not takes_token(scope["method"], scope["path"]):
                raise Forbidden("the token of a turn reads its session and appends to it, nothing else")
            return self._identity.pod(await self._tokens.verify(token.decode("latin-1")), headers, peer)
        try:
            return self._identity.actor(headers, peer)
        except Unauthenticated:
            if scope["path"] not in OPEN_PATHS:
                raise
            return self._identity.anonymous(headers, peer)

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
    return _again(body, receive)


async def _bounded(receive: Receive, headers: dict[bytes, bytes]) -> Receive:
    return _again(await read_body(receive, headers, MAX_ADK_BODY), receive)


def _again(body: bytes, receive: Receive) -> Receive:
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


def _refusal(error: SessionManagerError, *, adk: bool) -> Refusal:
    return adk_errors.of(error) if adk else problems.of(error)


async def _refuse(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
