"""Errors as answers: one mapping, in two shapes.

Our own routes answer with problem documents (RFC 9457), whose ``detail`` never contains a path, a key, a stack or a
host.  ADK's routes answer like google-adk's server: ``{"detail": …}``, and 422 with a list for an invalid body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson
from fastapi._compat import ModelField
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from session_manager.domain.errors import (
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    SessionManagerError,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger(__name__)

PROBLEM = "application/problem+json"
QUOTA_EXCEEDED = "urn:session-manager:quota-exceeded"  # the type of all problems with quotas
JSON = "application/json"
TITLES = {400: "Invalid input", 404: "Not found", 405: "Method not allowed", 413: "Body too large"}
DETAILS = {404: "no such path", 405: "this path does not take that method"}

MOST_ERRORS = 50
MOST_COUNTED = 10_000  # mistakes in a body: listing them takes 10 ms at most
LARGE = 4 * 1024  # bytes of a body; the answer to a larger one does not repeat the invalid values

Known: TypeAlias = SessionManagerError | HTTPException | RequestValidationError


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def json_answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, {**(headers or {}), "content-type": JSON}, orjson.dumps(value))


def problem(error: BaseException) -> Answer:
    """Return the problem document for an error."""
    known = _known(error)
    if isinstance(known, HTTPException):
        title = TITLES.get(known.status_code, "Request rejected")
        body = problem_body(known.status_code, title, DETAILS.get(known.status_code, title))
        return Answer(known.status_code, {**(known.headers or {}), "content-type": PROBLEM}, body)
    if isinstance(known, RequestValidationError):
        known = _invalid(known.errors())
    body = problem_body(known.http_status, known.title, known.detail, **_more(known))
    return Answer(known.http_status, {**_headers(known), "content-type": PROBLEM}, body)


def _more(error: SessionManagerError) -> dict[str, Any]:
    """Return the members of a problem document that programs read."""
    if isinstance(error, QuotaExceeded):
        return {"type": QUOTA_EXCEEDED, "quota": error.quota, "limit": error.limit, "used": error.used}
    return {"field": error.field} if isinstance(error, InvalidInput) and error.field else {}


def problem_body(status: int, title: str, detail: str, **more: Any) -> bytes:
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, **more})


def adk(error: BaseException, unknown: Answer, size: int) -> Answer:
    """Return the answer of ADK's shape. ``unknown`` is that for NotFound, ``size`` the length of the body in bytes."""
    known = _known(error)
    if isinstance(known, NotFound):
        return unknown
    if isinstance(known, RequestValidationError):
        left_out = "input" if size > LARGE else None
        shown = [{k: v for k, v in each.items() if k != left_out} for each in known.errors()[:MOST_ERRORS]]
        return Answer(422, {"content-type": JSON}, to_json({"detail": shown}, fallback=lambda _: {}))  # of any integer
    if isinstance(known, HTTPException):
        return json_answer(known.status_code, {"detail": known.detail}, known.headers)
    return json_answer(known.http_status, {"detail": known.detail}, _headers(known))


def checked_body(field: ModelField, value: Any) -> Any:
    """Return the body as the model of its route. RequestValidationError has its first mistakes, without the values."""
    try:
        return field._type_adapter.validate_python(value, from_attributes=True)
    except ValidationError as error:
        count = error.error_count()
        if count > MOST_COUNTED:
            first: list[Any] = [{"type": "too_many_errors", "loc": (), "msg": f"The body has {count} mistakes"}]
        else:
            first = error.errors(include_url=False, include_input=False)[:MOST_ERRORS]
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in first]) from None


def _known(error: BaseException) -> Known:
    """Return the error that the caller reads. Only the log has the details of our own faults."""
    cause = error.__cause__ if isinstance(error, HTTPException) else None
    if isinstance(cause, SessionManagerError | RequestValidationError):
        error = cause  # FastAPI replaces what the parser of a body raised
    if isinstance(error, SessionManagerError | HTTPException | RequestValidationError):
        if isinstance(error, SessionManagerError) and error.http_status >= 500 and not isinstance(error, Unavailable):
            log.error("request failed: %s", error.detail, extra={"event": "request.failed"})
        return error
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("the server stops; try again")
    log.error("unexpected error", exc_info=error, extra={"event": "request.crashed"})
    return SessionManagerError("something went wrong; the log has the details")


def _headers(error: SessionManagerError) -> dict[str, str]:
    if isinstance(error, RateLimited | QueueFull | Unavailable) and not isinstance(error, OutcomeUnknown):
        return {"retry-after": str(error.retry_after)}
    if isinstance(error, UnsupportedMedia):
        return {"accept": JSON, "accept-encoding": "identity"}
    return {"www-authenticate": "Bearer"} if error.http_status == 401 else {}


def _invalid(errors: Sequence[Any]) -> InvalidInput:
    """Return the first error of a body, a path or a query as a sentence that names the field."""
    first = errors[0] if errors else {}
    places = [str(part) for part in first.get("loc", ()) if part not in {"body", "query", "path", "header"}]
    field = ".".join(places)
    if first.get("type") == "json_invalid":
        return InvalidInput("the body is not JSON")
    if not field and first.get("type") == "model_attributes_type":
        return InvalidInput("the body must be a JSON object")
    message = str(first.get("msg", "invalid")).removeprefix("Value error, ")
    if first.get("type") == "string_pattern_mismatch":
        message = "must be a UUID" if field.endswith("_id") else "has characters that are not allowed here"
    return InvalidInput(f"{field}: {message}" if field else f"the request body: {message}", field or None)
