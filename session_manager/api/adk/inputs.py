"""Paths and bodies as ADK's clients send them: either spelling of a name, unknown names ignored, events checked.

The gate answers a caller that may not act for the user of the path as if the user were unknown.

What is stored is JSON that both engines keep exactly, and that ADK's own services can read again.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, alias_generators
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, from_json

from session_manager.api.call import check_bounds, has_nul, scalars
from session_manager.domain.access import Caller
from session_manager.domain.adk.events import CONTENT, EVENT, PART
from session_manager.domain.adk.model import APP, AdkKey, State
from session_manager.domain.adk.wire import Codec
from session_manager.domain.errors import Forbidden, NotFound
from session_manager.domain.json_bounds import may_overflow
from session_manager.domain.values import Json, valid_id

MAX_ADK_BODY = 8 * 1024 * 1024  # bytes; an artifact comes as base64 in JSON
MAX_STATE_BODY = 1024 * 1024  # bytes; state is what agents remember, not what they work on
MOST_EVENTS = 500  # in one body: all of them are stored in one commit
WEIGHT = 8  # of a byte of an event: 4 KiB of empty events take as long as 32 KiB of any other JSON
DEEPEST = 100  # arrays and objects in each other: ADK's readers give up at 200, and an event is nested in others


class AdkUser(NamedTuple):
    """A user of an app, for whom the caller acts."""

    app: str
    id: str

    def key(self, session_id: str) -> AdkKey:
        """Return the key of a session. Raises NotFound for an id that no session can have."""
        if "\0" in session_id:
            raise NotFound
        return AdkKey(self.app, self.id, session_id)

    def new_key(self, session_id: str) -> AdkKey:
        """Return the key of a session to be made. Raises InvalidInput, which names the field."""
        key = self.key(session_id)
        for name, part in zip(("app", "user", "sessionId"), key, strict=True):
            valid_id(part, name)
        return key


async def _user(app_name: str, user_id: str) -> AdkUser:
    if "\0" in app_name + user_id:
        raise NotFound
    return AdkUser(app_name, user_id)


User = Annotated[AdkUser, Depends(_user)]


def check_shared(caller: Caller, state: State | None) -> None:
    """Raise Forbidden for a user that would change what other users of the app read."""
    if not caller.trusted and any(name.startswith(APP) for name in state or ()):
        raise Forbidden("app: is shared by all users of the app, and is changed by services and agents only")


@dataclass(frozen=True, slots=True)
class _Checked:
    """A value that ``codec`` checks; the handler gets its stored form."""

    codec: Codec
    title: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self.codec.schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "title": self.title, "additionalProperties": True}


EventBody = Annotated[Json, _Checked(EVENT, "Event of google-adk")]
EventBodies = Annotated[list[EventBody], Field(max_length=MOST_EVENTS)]
ContentBody = Annotated[Json, _Checked(CONTENT, "Content of google-genai")]
PartBody = Annotated[Json, _Checked(PART, "Part of google-genai")]


class Body(BaseModel):
    model_config = ConfigDict(alias_generator=alias_generators.to_camel, populate_by_name=True)


class CreateSession(Body):
    session_id: str | None = None
    state: Json | None = None
    events: EventBodies | None = None
    options: Json | None = None


class UpdateSession(Body):
    state_delta: Json


class AppendEvents(Body):
    """``last_update_time``: the session's, as the writer knows it; 409 if the session has changed since."""

    event: EventBody | None = None
    events: EventBodies | None = None
    last_update_time: float | None = None


class SaveArtifact(Body):
    filename: str
    artifact: PartBody
    custom_metadata: Json | None = None


class UpdateMemory(Body):
    session_id: str


def strict_json(body: bytes) -> Any:
    """Return the value; integers of any length are exact.

    Raises json.JSONDecodeError, also for what only some programs accept as JSON: NaN, infinity, lone surrogates, NUL,
    endless nesting. Raises TooLarge if the body would take long to parse.
    """
    check_bounds(body)
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        json.loads(body)  # reports the place like ADK's own server, unless it accepts more than we do
        raise json.JSONDecodeError(str(error), "", 0) from None
    reason = _unfit(value, body)
    if reason is not None:
        raise json.JSONDecodeError(reason, "", 0)
    return value


def _unfit(value: Any, body: bytes) -> str | None:
    """Return why the value cannot be stored, or None. Only suspicious bytes in ``body`` make it look into ``value``."""
    if b"\\u0000" in body and has_nul(value):
        return "NUL character"
    if may_overflow(body) and any(isinstance(each, float) and math.isinf(each) for each in scalars(value)):
        return "number out of range"
    if body.count(b"[") + body.count(b"{") > DEEPEST and _deeper(value, DEEPEST):
        return "nested too deep"
    return None


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [each for group in inside for each in group if isinstance(each, dict | list)]
        if not level:
            return False
    return True
