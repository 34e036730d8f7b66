"""Errors as RFC 9457 problem documents: one mapping from the error tree to HTTP.

``detail`` is always there and never tells a path, a key, a stack or a host.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from slowapi.errors import RateLimitExceeded
from starlette.exceptions import HTTPException

from session_manager.domain.errors import InvalidInput, RateLimited, SessionManagerError, Unavailable

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TITLES = {400: "Invalid input", 404: "Not found", 405: "Method not allowed", 413: "Body too large"}


def body(status: int, title: str, detail: str, **more: Any) -> bytes:
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, **more})


def of(error: SessionManagerError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for an error of ours."""
    headers = {"content-type": MEDIA_TYPE}
    more: dict[str, Any] = {}
    if isinstance(error, RateLimited | Unavailable):
        headers["retry-after"] = str(error.retry_after)
    if isinstance(error, InvalidInput) and error.field:
        more["field"] = error.field
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    return error.http_status, headers, body(error.http_status, error.title, error.detail, **more)


def response(error: SessionManagerError) -> Response:
    status, headers, content = of(error)
    return Response(content, status, headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(SessionManagerError, _ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http)  # type: ignore[arg-type]
    app.add_exception_handler(RateLimitExceeded, _limited)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: SessionManagerError) -> Response:
    if error.http_status >= 500 and not isinstance(error, Unavailable):
        log.error("request failed: %s", error.detail, extra={"event": "request.failed"})
    return response(error)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return response(invalid(error.errors()))


def invalid(errors: Sequence[Any]) -> InvalidInput:
    """The first thing that is wrong, in words, naming the field."""
    first = errors[0] if errors else {}
    places = [str(part) for part in first.get("loc", ()) if part not in {"body", "query", "path", "header"}]
    field = ".".join(places)
    if first.get("type") == "json_invalid":
        return InvalidInput("the body is not JSON")
    if not field and first.get("type") == "model_attributes_type":
        return InvalidInput("the body must be a JSON object, sent with Content-Type: application/json")
    message = str(first.get("msg", "invalid")).removeprefix("Value error, ")
    if first.get("type") == "string_pattern_mismatch":
        message = "must be a UUID" if field.endswith("_id") else "has characters that are not allowed here"
    return InvalidInput(f"{field}: {message}" if field else f"the request body: {message}", field or None)


async def _http(request: Request, error: HTTPException) -> Response:
    title = TITLES.get(error.status_code, "Request refused")
    detail = {404: "no such path", 405: "this path does not take that method"}.get(error.status_code, title)
    headers = {**(error.headers or {}), "content-type": MEDIA_TYPE}
    return Response(body(error.status_code, title, detail), error.status_code, headers)


async def _limited(request: Request, error: Exception) -> Response:
    return response(RateLimited(retry_after=60))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, extra={"event": "request.crashed"})
    return response(SessionManagerError("something went wrong; the log has the details"))
