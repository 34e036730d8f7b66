"""The events of a turn for its caller, as ADK shows them: live, and at the end of the turn."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson
from pydantic_core import from_json, to_json

from session_manager.activity.protocol import Lagging
from session_manager.api.sse import SIGN_OF_LIFE, one_line
from session_manager.domain.adk.events import event_json
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.adk.turn_events import answer_event, invocation_of, reply_id
from session_manager.domain.errors import NotFound
from session_manager.domain.message import Message, Outcome
from session_manager.domain.session import Failure, Session
from session_manager.domain.session_class import PodProtocol, class_of_session
from session_manager.domain.times import rfc3339, seconds
from session_manager.domain.values import Json
from session_manager.turns.service import Notes, Ticket
from session_manager.wiring.services import Services

GONE = "the session was deleted"
EVENTS = ',"events":['
EVENT = '"event":'
CLOCKS = 5.0  # seconds by which the clocks of front doors and the database may differ


class Run(NamedTuple):
    """One accepted turn. ``streaming``: its caller wants the deltas too."""

    services: Services
    session: Session
    ticket: Ticket
    streaming: bool = False

    @property
    def message(self) -> Message:
        return self.ticket.message

    @property
    def speaks_adk(self) -> bool:
        return class_of_session(self.services.classes, self.session.class_name).protocol is PodProtocol.ADK


async def events_of(run: Run, outcome: Outcome) -> bytes:
    """Return the agent's events as a JSON array. A failed turn has one event, with the error."""
    response = outcome.response
    if response is not None and run.speaks_adk and EVENTS in response:
        # The pod's own events. In a string the quotes would be escaped, so this is where the array begins.
        return response[response.index(EVENTS) + len(EVENTS) - 1 : -1].encode()
    return b"[%b]" % await _own_event(run, outcome)


async def _own_event(run: Run, outcome: Outcome) -> bytes:
    """Return the event that the front door wrote for the turn, as the session shows it."""
    session, message = run.session, run.message
    key = AdkKey(session.app, session.user_id, session.adk_id)
    wanted = f'"id":"{reply_id(message.id)}"'
    stored = await run.services.store.adk_get(key, since=seconds(message.accepted_at) - CLOCKS)
    for data in reversed(stored.events):
        if wanted in data:
            return event_json(data)
    return event_json(answer_event(message, session.app, outcome, time.time()).data)


@dataclass(slots=True, eq=False)
class Live:
    """The events of a run as ``data:`` lines, each as soon as it is available; comments as signs of life."""

    run: Run
    notes: AsyncGenerator[Json | None, None]
    shown: set[str] = field(default_factory=set)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.notes) as notes:
            try:
                async for line in self._until_ended(notes):
                    yield line
            except NotFound:
                yield failure_line("SessionDeleted", GONE)
            except Lagging:
                yield failure_line("StreamLagged", "this stream was not read fast enough; the turn goes on")

    async def _until_ended(self, notes: Notes) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.run.services.turns.follow(self.run.ticket, notes)) as items:
            async for item in items:
                if item is None:
                    yield SIGN_OF_LIFE
                elif isinstance(item, Failure):
                    # The turn still waits for the next try, so the event is partial.
                    error = {"errorCode": item.reason, "errorMessage": why_not_started(item)}
                    yield _line(orjson.dumps(_partial(self.run) | error))
                elif isinstance(item, Outcome):
                    async for line in self._rest(item):
                        yield line
                else:
                    for line in self._delta(item):
                        yield line

    def _delta(self, note: Json) -> list[bytes]:
        if note["kind"] != "delta":
            return []
        if not self.run.speaks_adk:
            return [_line(_piece(self.run, note["data"]))] if self.run.streaming else []
        text = note["data"]
        text = text[text.index(EVENT) + len(EVENT) : -1]
        event = from_json(text)
        if event.get("partial"):
            return [_line(text.encode())] if self.run.streaming else []
        self.shown.add(str(event.get("id")))
        return [_line(text.encode())]

    async def _rest(self, outcome: Outcome) -> AsyncGenerator[bytes, None]:
        """Yield the events that were not sent live, which may be all of them."""
        if outcome.error is not None:
            yield failure_line("TurnFailed", outcome.error)
            return
        for event in from_json(await events_of(self.run, outcome)):
            if event.get("id") not in self.shown:
                yield _line(to_json(event))


def failure_line(kind: str, error: str) -> bytes:
    """Return an error as ADK sends it once its answer has begun."""
    return _line(orjson.dumps({"error": error, "error_details": {"error_type": kind, "error_message": error}}))


def why_not_started(failure: Failure) -> str:
    """Return why the pod cannot start, for the caller of a turn that waits for it."""
    again = rfc3339(failure.next_try)
    return f"the pod cannot start: {failure.remedy}. The message is kept; the start is tried again at {again}"


def _piece(run: Run, data: str) -> bytes:
    """Return a delta of a pod that does not speak ADK, as an event."""
    text = _text(data)
    content = {"parts": [{"text": data if text is None else text}], "role": "model"}
    return orjson.dumps(_partial(run) | {"content": content})


def _partial(run: Run) -> Json:
    """Return the fields of an event that the session does not keep."""
    return {
        "partial": True,
        "invocationId": invocation_of(run.message),
        "author": run.session.app,
        "id": reply_id(run.message.id),
        "timestamp": time.time(),
    }


def _text(data: str) -> str | None:
    try:
        delta = from_json(data)
    except ValueError:  # nested deeper than the parser goes
        return None
    text = delta.get("text") if isinstance(delta, dict) else delta
    return text if isinstance(text, str) else None


def _line(event: bytes) -> bytes:
    return b"data: %b\n\n" % one_line(event)
