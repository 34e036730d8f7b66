"""Errors as ADK's clients read them: ``{"detail": …}``, and a list of what is wrong for a body (422)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse

from session_manager.domain.errors import NotFound, RateLimited, SessionManagerError, Unavailable

log = logging.getLogger(__name__)

NO_SESSION = "Session not found"


def of(error: SessionManagerError) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body for an error of ours."""
    headers = {"content-type": "application/json"}
    if isinstance(error, RateLimited | Unavailable):
        headers["retry-after"] = str(error.retry_after)
    if error.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    detail = NO_SESSION if isinstance(error, NotFound) else error.detail
    return error.http_status, headers, orjson.dumps({"detail": detail})


@contextmanager
def missing(detail: str) -> Iterator[None]:
    """What is not found inside is 404 in these words."""
    try:
        yield
    except NotFound:
        raise HTTPException(404, detail) from None


MOST_ERRORS = 50
LARGE = 64 * 1024  # bytes of a body; of larger ones it is not repeated what was wrong, only where


def install(app: FastAPI) -> None:
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(SessionManagerError, _ours)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _unexpected)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """As FastAPI answers, but of a bounded length."""
    errors = list(error.errors())[:MOST_ERRORS]
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > LARGE:
        errors = [{name: value for name, value in each.items() if name != "input"} for each in errors]
    return await request_validation_exception_handler(request, RequestValidationError(errors))


async def _ours(request: Request, error: SessionManagerError) -> Response:
    if error.http_status >= 500 and not isinstance(error, Unavailable):
        log.error("request failed: %s", error.detail, extra={"event": "request.failed"})
    status, headers, body = of(error)
    return Response(body, status, headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, extra={"event": "request.crashed"})
    return PlainTextResponse("Internal Server Error", 500)
