"""The event stream of an ADK server: partial events go on at once, complete ones are collected as the turn's."""

from __future__ import annotations

import time
from uuid import uuid4

from pydantic_core import ValidationError, to_json

from session_manager.domain.adk.events import parse_event
from session_manager.domain.adk.model import AdkEvent
from session_manager.domain.adk.wire import from_json
from session_manager.domain.errors import PodDied, PodRejected
from session_manager.domain.values import Json
from session_manager.podclient.connection import MAX_REPLY, PodConnection
from session_manager.podclient.protocol import AdkExchange, DeltaListener
from session_manager.podclient.replies import CUT_SHORT, excerpt, json_text
from session_manager.podclient.streams import MAX_EVENT, EventParser


async def follow(connection: PodConnection, turn: AdkExchange, on_delta: DeltaListener) -> Collected:
    """Read the stream to its end. PodRejected: the agent failed. PodDied: the stream was cut short."""
    collected = Collected(turn, on_delta)
    parser = EventParser(MAX_REPLY)
    while (chunk := await connection.chunk()) is not None:
        for _, data in parser.feed(chunk):
            await collected.take(data)
    last = parser.finish()
    if last is not None:
        await collected.take(last[1])
    if not connection.framed:
        raise PodDied(CUT_SHORT)
    return collected


class Collected:
    """The part of a stream that has arrived so far. ``turn.events`` has its complete events as they are stored."""

    def __init__(self, turn: AdkExchange, on_delta: DeltaListener) -> None:
        self._turn = turn
        self._on_delta = on_delta
        self._events: list[str] = []
        self._values: list[Json] = []
        self._size = 0
        turn.events.clear()

    async def take(self, data: str) -> None:
        text, event = _read(data)
        if "error" in event and "id" not in event:
            raise PodRejected(f"the agent failed: {excerpt(text.encode())}")
        if event.get("partial"):
            await self._pass_on(text, event)
        else:
            await self._keep(text, event)

    async def _pass_on(self, text: str, event: Json) -> None:
        if len(text) > MAX_EVENT:
            raise PodRejected(f"an event of the pod's stream is longer than {MAX_EVENT} bytes")
        await self._on_delta(f'{{"text":{_dump(words_of(event))},"event":{text}}}')

    async def _keep(self, text: str, event: Json) -> None:
        self._size += len(text)
        if self._size > MAX_REPLY:
            raise PodRejected(f"the pod's events are longer than {MAX_REPLY} bytes")
        passed_on = text
        before = self._values[-1] if self._values else {}
        if event.get("id") and event["id"] == before.get("id"):
            # ADK sends an event that made artifacts twice: first its content, then its actions.
            event = {**before, "actions": event.get("actions") or {}}
            text = _dump(event)
            for kept in (self._values, self._events, self._turn.events):
                kept.pop()
        self._turn.events.append(_stored(event))
        self._values.append(event)
        self._events.append(text)
        if len(passed_on) <= MAX_EVENT:
            await self._on_delta(f'{{"event":{passed_on}}}')

    @property
    def response(self) -> str:
        """Return ``{"reply": "<the last text>", "events": […]}``, with the events as the pod sent them."""
        texts = (words_of(event) for event in reversed(self._values))
        reply = next(filter(None, texts), "")
        return f'{{"reply":{_dump(reply)},"events":[{",".join(self._events)}]}}'


def words_of(event: Json) -> str:
    """Return the text of the event, without the model's thoughts."""
    content = event.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        return ""
    said = (part for part in parts if isinstance(part, dict) and not part.get("thought"))
    return "".join(part["text"] for part in said if isinstance(part.get("text"), str))


def _read(data: str) -> tuple[str, Json]:
    text, _ = json_text(data.encode())
    if text is None:
        raise PodRejected("an event of the pod's stream is not a JSON object")
    try:
        [[[[event]]]] = from_json(f"[[[[{text}]]]]")  # stored, it is nested in others, and has to be readable there
    except ValueError:
        raise PodRejected("an event of the pod's stream is nested too deeply, or has too long a number") from None
    if not isinstance(event, dict):
        raise PodRejected("an event of the pod's stream is not a JSON object")
    return text, event


def _stored(event: Json) -> AdkEvent:
    try:
        return parse_event(event, time.time(), uuid4)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PodRejected(f"an event of the pod is not an ADK event: {where}: {first['msg']}") from None


def _dump(value: object) -> str:
    return to_json(value).decode()
