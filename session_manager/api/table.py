"""The rules as routes: each with what serves it, found by method and path."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, TypeAlias

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from session_manager.api.adk.bodies import strict_json
from session_manager.api.bodies import checked_json
from session_manager.api.call import call_of
from session_manager.api.openapi import Documents
from session_manager.api.rules import RULES, Audience, Door, Rule

Methods: TypeAlias = dict[str, tuple[Rule, ASGIApp]]
Paths: TypeAlias = dict[str, list[tuple[re.Pattern[str], Methods]]]
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
        return call_of(self.scope).body

    async def json(self) -> Any:
        return self._parse(await self.body())


class Table:
    """The routes by the first segment of their path, in the order of the rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._root: Paths = {}
        self._under_adk: Paths = {}
        ours: list[Route] = []
        adk: list[Route] = []
        for rule in rules:
            route = Route(rule)
            serve = rule.handler if rule.described is not None else AsyncExitStackMiddleware(route.app)
            (adk if rule.adk else ours).append(route)
            if rule.door is not Door.ADK_ONLY:
                _methods(self._root, route)[rule.method] = rule, serve
            if rule.adk:
                _methods(self._under_adk, route)[rule.method] = rule, serve
        self.documents = Documents(ours, adk)

    def find(self, method: str, path: str) -> Found:
        """Return the route. An unknown path has one too, which rejects callers without a key and then answers 404."""
        paths = self._root
        if path.startswith("/adk/"):
            paths, path = self._under_adk, path[4:]
        other: Methods = {}
        for pattern, methods in paths.get(_first(path), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                if method in methods:
                    return *methods[method], match.groupdict()
                other = other or methods
        if other:
            return _wrong_method(other)
        for pattern, methods in paths.get(_first(path), ()):
            if path.endswith("/") and pattern.fullmatch(path[:-1]) and next(iter(methods.values()))[0].adk:
                return _ADK_SLASH
        return _NO_ADK_PATH if paths is self._under_adk or path.startswith("/apps/") else _NO_PATH


def _first(path: str) -> str:
    return path[1:].partition("/")[0]


def _methods(paths: Paths, route: Route) -> Methods:
    """Return the methods of a path, which every route of that path shares."""
    patterns = paths.setdefault(_first(route.path), [])
    for pattern, methods in patterns:
        if pattern == route.path_regex:
            return methods
    patterns.append((route.path_regex, {}))
    return patterns[-1][1]


@cache
def table() -> Table:
    """Return the table of all routes, which all front doors of a process share."""
    return Table(RULES)


class _Rejects:
    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._status = status
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(self._status, headers=self._headers)


async def _redirect(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer like ADK's own server, for which a slash at the end of a path is another path."""
    url = URL(scope=scope)
    await RedirectResponse(url=str(url.replace(path=url.path.rstrip("/"))))(scope, receive, send)


def _wrong_method(methods: Methods) -> Found:
    rule, _ = next(iter(methods.values()))
    anybody = replace(rule, limit=None, body=0, pods=False, user_in_body=False)
    return anybody, _Rejects(405, {"allow": rule.method}), {}


_MISSING = Rule("", "", Audience.KEYS, None, _Rejects(404))
_MISSING_OF_ADK = replace(_MISSING, door=Door.ADK)
_NO_PATH: Found = (_MISSING, _MISSING.handler, {})
_NO_ADK_PATH: Found = (_MISSING_OF_ADK, _MISSING.handler, {})
_ADK_SLASH: Found = (_MISSING_OF_ADK, _redirect, {})
