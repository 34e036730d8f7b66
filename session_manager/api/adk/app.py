"""ADK's routes as one application: under ``/adk`` and, but for what is ours there, at the root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI

from session_manager import __version__
from session_manager.api.adk import apps, artifacts, errors, memory, run, sessions
from session_manager.api.adk.paths import PREFIX
from session_manager.api.limits import ChatLimit, RouteLimits
from session_manager.wiring.services import Services

DESCRIPTION = """The routes of google-adk's own server for sessions, artifacts, memory and runs: its clients work
unchanged with `/adk` as their base URL.

A session made here is one of ours: the header `X-Session-Id` of an answer names it for the routes at the root."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AdkDoor:
    """The application, told by the path where it stands."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(PREFIX):
            scope = {**scope, "root_path": scope.get("root_path", "") + PREFIX}
        await self._app(scope, receive, send)


def build_adk(services: Services, limits: RouteLimits) -> AdkDoor:
    app = FastAPI(title="Session Manager: ADK", version=__version__, description=DESCRIPTION, redoc_url=None)
    errors.install(app)
    for subject in (apps, sessions, artifacts, memory):
        app.include_router(subject.router(services, limits))
    app.include_router(run.router(services, ChatLimit(services.settings, services.link)))
    return AdkDoor(app)
