"""JSON that can be kept: by both engines, exactly, and read again by ADK's own services."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fastapi import HTTPException
from pydantic_core import from_json

from session_manager.api.bodies import has_nul, scalars

MOST_VALUES = 100_000  # in one body: each costs microseconds, in which nobody else is served
DEEPEST = 100  # arrays and objects in each other: a reader of ADK's gives up at 200, and an event lies in others
HUGE = re.compile(rb"[eE]\+?\d{3}|\d{309}")  # where a number may be too large for a float


def strict_json(body: bytes) -> Any:
    """The value; integers of any length are exact. json.JSONDecodeError, also for what only some programs call JSON:
    NaN, infinity, lone surrogates, NUL, bottomless nesting. HTTPException (413) for more values than one body may have.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        json.loads(body)  # says where it is wrong, as ADK's own server does; unless it takes more than we do
        raise json.JSONDecodeError(str(error), "", 0) from None
    # One more value than there are commas and brackets, at most; where they stand in strings, the values are counted.
    if body.count(b",") + body.count(b"[") + body.count(b"{") >= MOST_VALUES and _more_than(MOST_VALUES, value):
        raise HTTPException(413, f"the body must have {MOST_VALUES} values at most")
    reason = _unfit(value, body)
    if reason is not None:
        raise json.JSONDecodeError(reason, "", 0)
    return value


def _unfit(value: Any, body: bytes) -> str | None:
    """Looks into ``value`` only where ``body`` gives reason to."""
    if b"\\u0000" in body and has_nul(value):
        return "NUL character"
    if HUGE.search(body) and any(isinstance(each, float) and math.isinf(each) for each in scalars(value)):
        return "number out of range"
    if body.count(b"[") + body.count(b"{") > DEEPEST and _deeper(value, DEEPEST):
        return "nested too deep"
    return None


def _more_than(limit: int, value: Any) -> bool:
    """Values, the objects and arrays that hold others included."""
    count, waiting = 1, [value] if isinstance(value, dict | list) else []
    while waiting and count <= limit:
        each = waiting.pop()
        inside = each.values() if isinstance(each, dict) else each
        count += len(inside)
        waiting += [value for value in inside if isinstance(value, dict | list)]
    return count > limit


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for group in inside for each in group if isinstance(each, dict | list)]
        if not level:
            return False
    return True
