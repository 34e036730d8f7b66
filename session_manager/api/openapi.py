"""The OpenAPI documents of our own routes and of ADK's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from session_manager import __version__
from session_manager.api.schemas import Problem
from session_manager.domain.values import Json

TITLE = "Session Manager"
DESCRIPTION = """One private, durable pod per conversation, which costs nothing while nobody talks.

Errors are problem documents (RFC 9457) and always have a `detail`.

A key is sent as `Authorization: Bearer …` or as `X-API-Key`. A service's key acts for anybody, or for the user whom
the header `X-User-Id` names; one that is bound to a user acts for that user only."""
ADK_DESCRIPTION = """The routes of google-adk's own server for sessions, artifacts, memory and runs: its clients work
unchanged with `/adk` as their base URL.

A session made here is an ordinary one: the header `X-Session-Id` of an answer names it for the routes at the root."""

ERRORS = {
    400: "Invalid input",
    401: "Authentication needed",
    403: "Not allowed",
    404: "No such session or message",
    409: "Contradicts the present state",
    413: "Body too large",
    415: "Not JSON in UTF-8, or compressed",
    429: "Over a limit; see Retry-After",
    503: "Redis or the database is away; nothing was committed",
    504: "The database went away during the commit; it is unknown whether the change was stored",
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


@dataclass(eq=False)
class Documents:
    """Each document is built when it is first read."""

    our_routes: Sequence[APIRoute]
    adk_routes: Sequence[APIRoute]

    @cached_property
    def ours(self) -> Json:
        """FastAPI's document, with our errors in place of its 422 and the two ways to send a key."""
        document = get_openapi(title=TITLE, version=__version__, description=DESCRIPTION, routes=self.our_routes)
        for replaced in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(replaced, None)
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        document["components"]["securitySchemes"] = SECURITY
        document["security"] = [{"bearer": []}, {"key": []}, {}]
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                for status, description in ERRORS.items():
                    operation["responses"].setdefault(str(status), {"description": description, "content": content})
        return document

    @cached_property
    def adk(self) -> Json:
        return get_openapi(
            title=f"{TITLE}: ADK",
            version=__version__,
            description=ADK_DESCRIPTION,
            routes=self.adk_routes,
            servers=[{"url": "/adk"}],
        )
