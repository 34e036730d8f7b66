"""Bodies as ADK's clients send them: either spelling of a name, unknown names ignored, events and parts checked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, alias_generators
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from session_manager.api.adk.strict import strict_json
from session_manager.domain.adk.events import CONTENT, EVENT, PART
from session_manager.domain.adk.wire import Codec

MAX_ADK_BODY = 8 * 1024 * 1024  # bytes; an artifact comes as base64 in JSON


class _Checked:
    """A value that ``codec`` checks; the handler gets its stored form."""

    def __init__(self, codec: Codec, title: str) -> None:
        self._codec = codec
        self._title = title

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return self._codec.schema

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "title": self._title, "additionalProperties": True}


EventBody = Annotated[dict[str, Any], _Checked(EVENT, "Event of google-adk")]
ContentBody = Annotated[dict[str, Any], _Checked(CONTENT, "Content of google-genai")]
PartBody = Annotated[dict[str, Any], _Checked(PART, "Part of google-genai")]


class Body(BaseModel):
    model_config = ConfigDict(alias_generator=alias_generators.to_camel, populate_by_name=True)


class CreateSession(Body):
    session_id: str | None = None
    state: dict[str, Any] | None = None
    events: list[EventBody] | None = None
    options: dict[str, Any] | None = None


class UpdateSession(Body):
    state_delta: dict[str, Any]


class AppendEvents(Body):
    """``last_update_time``: of the session as the writer knows it; it is refused when it is older than what is kept."""

    event: EventBody | None = None
    events: list[EventBody] | None = None
    last_update_time: float | None = None


class SaveArtifact(Body):
    filename: str
    artifact: PartBody
    custom_metadata: dict[str, Any] | None = None


class UpdateMemory(Body):
    session_id: str


class _Strict(Request):
    async def json(self) -> Any:
        return strict_json(await self.body())


class Route(APIRoute):
    """Reads bodies strictly. FastAPI turns what is none into its 422."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Strict(request.scope, request.receive))

        return handle
