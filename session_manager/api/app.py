"""The front door as one ASGI application."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from session_manager import __version__
from session_manager.api import backups, health, messages, metrics, problems, sessions
from session_manager.api.adk.app import build_adk
from session_manager.api.chat import ChatRoute
from session_manager.api.front import Front
from session_manager.api.limits import ChatLimit, RouteLimits
from session_manager.api.schemas import Problem
from session_manager.people.identity import Identity
from session_manager.wiring.services import Services

DESCRIPTION = """One private, durable pod per conversation, which costs nothing while nobody talks.

Errors are problem documents (RFC 9457) and always have a `detail`.

A key is sent as `Authorization: Bearer …` or as `X-API-Key`. A service's key acts for anybody, or for the user whom
the header `X-User-Id` names; one that is bound to a user acts for that user only."""

ERRORS = {
    400: "Invalid input",
    401: "Authentication needed",
    403: "Not allowed",
    404: "No such session or message",
    409: "Contradicts the present state",
    413: "Body too large",
    429: "Over a limit; see Retry-After",
    503: "Redis or the database is away; nothing was committed",
}


def build_app(services: Services) -> Front:
    """Every route on ``services``, which the caller starts and closes."""
    settings = services.settings
    limits = RouteLimits(settings, services.link.url)
    app = FastAPI(
        title="Session Manager", version=__version__, description=DESCRIPTION, redoc_url=None, redirect_slashes=False
    )
    problems.install(app)
    counters = metrics.Metrics(services.tools.times, services.host.wake_times, services.backups.stats, services.writer)
    app.include_router(sessions.router(services, limits))
    app.include_router(messages.router(services, limits))
    app.include_router(health.router(services, limits))
    app.include_router(metrics.router(services, limits, counters))
    app.include_router(backups.router(services, limits))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    chat = ChatRoute(services.turns, services.feed, ChatLimit(settings, services.link), settings.sessions.answer_within)
    identity = Identity(settings.server.api_keys, settings.server.trusted_proxies)
    adk = build_adk(services, limits)
    return Front(app, adk, chat, identity, services.tokens, counters, lambda: services.stopping, services.admit)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own document, with our errors in place of its 422 and the two ways to send a key."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for replaced in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(replaced, None)
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{"bearer": []}, {"key": []}, {}]
        for path in document["paths"].values():
            for operation in path.values():
                _document_errors(operation["responses"])
        app.openapi_schema = document
    return app.openapi_schema


def _document_errors(responses: dict[str, Any]) -> None:
    responses.pop("422", None)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, description in ERRORS.items():
        responses.setdefault(str(status), {"description": description, "content": content})
