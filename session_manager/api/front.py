"""The outermost layer, through which every request passes: one table of routes, one gate, one mapping of errors.

The gate takes each request in the same order: admission, identity, right or audience, limit, bound of the body, body,
handler. It is plain ASGI, because the hot path passes through it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import unquote

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_manager.api import errors
from session_manager.api.adk.inputs import strict_json
from session_manager.api.call import Call, ClientGone, Parts, checked_json, read_body
from session_manager.api.failed_keys import FailedKeys
from session_manager.api.limits import Limits
from session_manager.api.metrics import Metrics
from session_manager.api.openapi import Documents
from session_manager.api.rules import ADMINS, KEYS, RULES, Door, Rule
from session_manager.domain.access import Anonymous, Caller
from session_manager.domain.errors import Forbidden, NotFound, Unauthenticated
from session_manager.domain.values import LONGEST_ID
from session_manager.leadership.leadership import admission
from session_manager.people.identity import Identity, header_map
from session_manager.wiring.services import Services

log = logging.getLogger(__name__)

SLASH = "\udc2f"  # a percent-encoded slash: a part of an id. UTF-8 never decodes to this character.
CLOSE = (b"connection", b"close")
POLICY_VIOLATION = 1008  # the code with which a WebSocket is closed

Served: TypeAlias = list[tuple[str, Callable[[str], re.Match[str] | None], Rule, ASGIApp]]
"""Method, match of the path, rule, and what serves it."""
Found: TypeAlias = tuple[Rule, ASGIApp, dict[str, str]]
"""A rule, what serves it, and the parameters of the path."""


class Route(APIRoute):
    """FastAPI's route for a rule. The front door reads the body; this parses it strictly."""

    def __init__(self, rule: Rule) -> None:
        self._parse = strict_json if rule.adk else checked_json
        options = rule.openapi if rule.gives is None else {"response_model": rule.gives, **rule.openapi}
        options = {"methods": [rule.method], "tags": [rule.tag], "status_code": rule.status, **options}
        super().__init__(rule.path, rule.described or rule.handler, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Received(request, self._parse))

        return handle


class _Received(Request):
    """A request whose body was read before."""

    def __init__(self, request: Request, parse: Callable[[bytes], Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._parse = parse

    async def body(self) -> bytes:
        call: Call = self.scope["call"]
        return call.body

    async def json(self) -> Any:
        return self._parse(await self.body())


class Table:
    """The routes of all rules, in their order."""

    def __init__(self) -> None:
        self._root: dict[str, Served] = {}  # by the first segment of the path
        self._under_adk: dict[str, Served] = {}
        ours: list[APIRoute] = []
        adk: list[APIRoute] = []
        for rule in RULES:
            route = Route(rule)
            (adk if rule.adk else ours).append(route)
            serve = rule.handler if rule.described is not None else AsyncExitStackMiddleware(route.app)
            served = [(rule.method, route.path_regex.fullmatch, rule, serve)]
            # ADK's routes take HEAD only if they are under /adk alone; ADK's own server does not take it at all.
            if rule.method == "GET" and rule.door is not Door.ADK:
                served.append(("HEAD", route.path_regex.fullmatch, rule, _without_body(serve)))
            if rule.door is not Door.ADK_ONLY:
                self._root.setdefault(_first(rule.path), []).extend(served)
            if rule.adk:
                self._under_adk.setdefault(_first(rule.path), []).extend(served)
        self.documents = Documents(ours, adk)

    def find(self, method: str, path: str) -> Found:
        """Return the route of a path as ``routed`` returns it.

        An unknown path has one too, which rejects callers without a key and then answers 404.
        """
        routes = self._root.get(_first(path))
        adk = path.startswith("/apps/")
        if routes is None and path.startswith("/adk/"):
            adk, path = True, path[4:]
            routes = self._under_adk.get(_first(path))
        for taken, match, rule, serve in routes or ():
            if taken == method and (found := match(path)) is not None:
                params = found.groupdict()
                if SLASH in path:
                    params = {name: value.replace(SLASH, "/") for name, value in params.items()}
                return rule, serve, params
        return _missing(path, routes or [], adk=adk)


def routed(scope: Scope) -> str:
    """Return the path, decoded, with ``SLASH`` for a slash inside a segment; an empty one unless it is UTF-8."""
    raw: bytes = scope.get("raw_path", b"")
    if b"%" not in raw:
        path: str = scope["path"]
        return path
    try:
        segments = [unquote(segment, errors="strict") for segment in raw.decode("ascii").split("/")]
    except UnicodeDecodeError:  # with replacement characters, two ids could become one
        return ""
    return "/".join(segment.replace("/", SLASH) for segment in segments)


def _first(path: str) -> str:
    return path[1:].partition("/")[0]


@cache
def table() -> Table:
    """Return the table of all routes, which all front doors of a process share."""
    return Table()


def _without_body(serve: ASGIApp) -> ASGIApp:
    """Return what answers HEAD: the answer ends with its headers, also where ``serve`` would stream."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        await serve(scope, receive, send_head)

    return answer


def _missing(path: str, routes: Served, *, adk: bool) -> Found:
    """Return what answers a path that has no such method, or does not exist."""
    for _, match, rule, _ in routes:
        if match(path):
            who = KEYS if rule.who is ADMINS else rule.who
            any_key = replace(rule, who=who, limit=None, body=0, pods=False, user_in_body=False)
            return any_key, _rejects(405, {"allow": rule.method}), {}
    if path.endswith("/") and any(rule.adk and match(path[:-1]) for _, match, rule, _ in routes):
        return _MISSING_OF_ADK, _redirect, {}
    return _MISSING_OF_ADK if adk else _MISSING, _MISSING.handler, {}


def _rejects(status: int, headers: dict[str, str] | None = None) -> ASGIApp:
    async def reject(scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(status, headers=headers)

    return reject


async def _redirect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer like ADK's own server, for which a slash at the end of a path is another path."""
    path = scope.get("raw_path", b"").decode("ascii") or scope["path"]
    await RedirectResponse(url=str(URL(scope=scope).replace(path=path.rstrip("/"))))(scope, receive, send)


_MISSING = Rule("", "", KEYS, None, _rejects(404))
_MISSING_OF_ADK = replace(_MISSING, door=Door.ADK)


@dataclass(slots=True, eq=False)
class Front:
    """``admit`` raises where another instance has the data or the pods, by the method of the request."""

    table: Table
    parts: Parts
    identity: Identity
    admit: Callable[[str], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        began = time.perf_counter()
        status = 0
        complete = False

        async def noting(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.parts.services.stopping:
                    message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            else:
                complete = not message.get("more_body", False)
            await send(message)

        method, path = scope.get("method", "WEBSOCKET"), scope["path"]
        rule, serve, params = self.table.find(method, routed(scope))
        try:
            await self._open(method, rule, params, scope, receive)
            await serve(scope, receive, noting)
        except ClientGone:
            status = 499
        except (Exception, asyncio.CancelledError) as error:
            answer = _answer(error, rule, scope)
            if scope["type"] == "websocket":
                status = answer.status
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            elif status == 0:
                await _send(noting, answer)
            elif not complete:
                # A stream that cannot go on ends like any other; its client resumes elsewhere or later.
                await noting({"type": "http.response.body", "body": b""})
        finally:
            self._note(method, path, status, time.perf_counter() - began)

    async def _open(self, method: str, rule: Rule, params: dict[str, str], scope: Scope, receive: Receive) -> None:
        """Let the request pass to its handler, which finds the call in the scope. Raises what rejects it."""
        if rule.admitted:
            await self.admit(method)
        headers = header_map(scope["headers"])
        client = scope.get("client")
        peer = client[0] if client else ""
        caller = await self._caller(rule, headers, peer)
        _check(rule, caller, params)
        if rule.limit is not None and not (rule.user_in_body and caller.names_users):
            await self.parts.limits.count(rule.limit, _limit_key(caller, params))
        call = scope["call"] = Call(self.parts, rule.limit, caller, headers, params)
        scope["path_params"] = params
        if rule.body:
            call.body = await read_body(receive, headers, rule.body)

    async def _caller(self, rule: Rule, headers: dict[bytes, bytes], peer: str) -> Caller:
        """Return the caller. A wrong key is counted; on an open route its caller is anonymous."""
        try:
            return await self.identity.caller(headers, peer, pods=rule.pods)
        except Unauthenticated as error:
            address = self.identity.client_address(headers, peer)
            if error.tried:
                await self.parts.failed_keys.count(address, refuse=not rule.anonymous)
            if not rule.anonymous:
                raise
            return Anonymous(address)

    def _note(self, method: str, path: str, status: int, duration: float) -> None:
        self.parts.metrics.request(method, status, duration)
        if status >= 500 or log.isEnabledFor(logging.DEBUG):
            level = logging.WARNING if status >= 500 else logging.DEBUG
            extra = {"event": "http.request", "status": status, "duration": round(duration, 4)}
            log.log(level, "%s %s", method, path, extra=extra)


def build_app(services: Services) -> Front:
    """Return every route on ``services``, which the caller starts and closes."""
    settings = services.settings
    metrics = Metrics(services.tools.times, services.host.wake_times, services.backups.stats, services.writer)
    failed_keys = FailedKeys(settings.limits.failed_keys, services.link, metrics.failed_keys)
    parts = Parts(services, Limits(settings, services.link), failed_keys, metrics, table().documents)
    identity = Identity(settings.server.api_keys, settings.server.trusted_proxies, services.tokens)
    writer = services.writer.leadership if services.writer else None
    return Front(table(), parts, identity, admission(writer, services.machine))


def _check(rule: Rule, caller: Caller, params: dict[str, str]) -> None:
    """Raise Forbidden for a caller outside the audience, NotFound where it may not act for the user of the path.

    The right on a session is not decided here: the statement that reads or changes the session decides it.
    """
    if rule.who is ADMINS and not caller.admin:
        raise Forbidden("only a service's key that acts for no user may do this")
    user = params.get("user_id")
    if user is not None and not caller.may_act_for(user):
        raise NotFound


def _limit_key(caller: Caller, params: dict[str, str]) -> str:
    """Return the key of the limit: a service is limited per user where the path names one, else per session."""
    user = params.get("user_id")
    if user is not None:
        return caller.acting_for(user[:LONGEST_ID]).limit_key("")
    # The path was not checked yet: a session is one in any spelling, and a bad id makes no long key.
    return caller.limit_key(params.get("session_id", "")[:36].lower())


def _answer(error: BaseException, rule: Rule, scope: Scope) -> errors.Answer:
    if not rule.adk:
        return errors.problem(error)
    call: Call | None = scope.get("call")
    return errors.adk(error, rule.unknown, len(call.body) if call is not None else 0)


async def _send(send: Send, answer: errors.Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that asks for a lifespan. Who built the services starts and closes them."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
