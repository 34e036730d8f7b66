"""The table of routes as it is served: which rule and which program answer a method and a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
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

from session_manager.aio.beside import AT_ONCE, by_size
from session_manager.api.adk.inputs import WEIGHT, strict_json
from session_manager.api.call import Call, checked_json
from session_manager.api.errors import checked_body
from session_manager.api.openapi import Documents
from session_manager.api.rules import ADMINS, KEYS, RULES, Door, Rule

SLASH = "\udc2f"  # a percent-encoded slash: a part of an id. UTF-8 never decodes to this character.

Served: TypeAlias = list[tuple[str, Callable[[str], re.Match[str] | None], Rule, ASGIApp]]
"""Method, match of the path, rule, and what serves it."""
Found: TypeAlias = tuple[Rule, ASGIApp, dict[str, str]]
"""A rule, what serves it, and the parameters of the path."""


class Route(APIRoute):
    """FastAPI's route for a rule. The front door reads the body; this parses it strictly."""

    def __init__(self, rule: Rule) -> None:
        self._parse: Callable[[bytes], Any] = strict_json if rule.adk else checked_json
        self._weight = WEIGHT if rule.adk else 1
        options = rule.openapi if rule.gives is None else {"response_model": rule.gives, **rule.openapi}
        options = {"methods": [rule.method], "tags": [rule.tag], "status_code": rule.status, **options}
        super().__init__(rule.path, rule.described or rule.handler, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Received(request, self._read, self._weight))

        return handle

    def _read(self, body: bytes) -> Any:
        """Return the JSON value; that of a long body is checked too, and FastAPI need not do it in the event loop."""
        value = self._parse(body)
        fields = self.dependant.body_params
        at_once = self._weight * len(body) <= AT_ONCE
        return value if at_once or len(fields) != 1 else checked_body(fields[0], value)


class _Received(Request):
    """A request whose body was received before."""

    def __init__(self, request: Request, read: Callable[[bytes], Any], weight: int) -> None:
        super().__init__(request.scope, request.receive)
        self._read = read
        self._weight = weight

    async def body(self) -> bytes:
        call: Call = self.scope["call"]
        return call.body

    async def json(self) -> Any:
        body = await self.body()
        return await by_size(self._weight * len(body), self._read, body)


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
            if rule.method == "GET":
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
        return _missing(method, path, routes or [], adk=adk)


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


def _missing(method: str, path: str, routes: Served, *, adk: bool) -> Found:
    """Return what answers a path that has no such method, or does not exist."""
    matching = [(taken, rule) for taken, match, rule, _ in routes if match(path)]
    if matching:
        rule = matching[0][1]
        who = KEYS if rule.who is ADMINS else rule.who
        any_key = replace(rule, who=who, limit=None, body=0, pods=False, user_in_body=False)
        allowed = ", ".join(sorted({"OPTIONS", *(taken for taken, _ in matching)}))
        return any_key, _describes(allowed) if method == "OPTIONS" else _rejects(405, {"allow": allowed}), {}
    if path.endswith("/") and any(rule.adk and match(path[:-1]) for _, match, rule, _ in routes):
        return _MISSING_OF_ADK, _redirect, {}
    return _MISSING_OF_ADK if adk else _MISSING, _MISSING.handler, {}


def _rejects(status: int, headers: dict[str, str] | None = None) -> ASGIApp:
    async def reject(scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(status, headers=headers)

    return reject


def _describes(allowed: str) -> ASGIApp:
    """Return what answers OPTIONS, with the methods of the path."""
    return Response(status_code=204, headers={"allow": allowed})


async def _redirect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer like ADK's own server, for which a slash at the end of a path is another path."""
    path = scope.get("raw_path", b"").decode("ascii") or scope["path"]
    await RedirectResponse(url=str(URL(scope=scope).replace(path=path.rstrip("/"))))(scope, receive, send)


_MISSING = Rule("", "", KEYS, None, _rejects(404))
_MISSING_OF_ADK = replace(_MISSING, door=Door.ADK)
