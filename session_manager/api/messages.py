"""Routes of the messages of a session, and its live feed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import orjson
from fastapi import Header, Query, Response
from starlette.types import Receive, Scope, Send

from session_manager.activity.protocol import START_FAILED
from session_manager.api import answers, sse
from session_manager.api.call import Call, CurrentCall
from session_manager.api.schemas import MessageId, SessionId
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.domain.message import Message, MessageStatus, Place, StoredEvent
from session_manager.turns.feed import DELETED
from session_manager.turns.service import Turns
from session_manager.wiring.services import Services

STEP = 25  # messages read at once
LONG_PAGE = 16 * 1024 * 1024  # characters of messages and replies after which a page ends


async def list_messages(
    call: CurrentCall,
    session_id: SessionId,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """The messages of a session with their results, oldest first. A page of long ones ends before ``limit``."""
    after = answers.key_of(cursor, int)[0] if cursor is not None else 0
    page, more = await _page(call, session_id, limit, int(after))
    running = await _running(call.services.turns, page)
    rows = [answers.message(each, each.status or running.get(each.id, MessageStatus.QUEUED)) for each in page]
    following = answers.cursor_of((page[-1].seq,)) if more else None
    return answers.json({"messages": rows, "next_cursor": following})


async def get_message(call: CurrentCall, session_id: SessionId, message_id: MessageId) -> Response:
    """One message with its result or its progress."""
    message = await call.services.store.get_message(session_id, message_id, call.access)
    return answers.json(answers.message(message, (await call.services.turns.progress(message)).status))


async def cancel(call: CurrentCall, session_id: SessionId, message_id: MessageId) -> Response:
    """End a message that has no result yet. If it runs its pod is replaced; 409 if it has ended."""
    message = await call.services.turns.cancel(session_id, message_id, call.access)
    return answers.json(answers.message(message, (await call.services.turns.progress(message)).status))


async def events(
    call: CurrentCall,
    session_id: SessionId,
    after: Annotated[str, Query(description="The id of the last event that was received, or its number.")] = "0",
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Server-sent events: what was recorded, numbered and without a gap, and live notes between.

    Resume with Last-Event-ID, as browsers do by themselves, or ``after``. If the database was replaced since, the
    first event is ``feed.reset``, and all events of the session follow.
    """
    place = _place("after", after) if last_event_id is None else _place("Last-Event-ID", last_event_id)
    await call.services.store.get_session(session_id, call.access)
    call.begin_stream()
    return EventStream(call.services, session_id, place)


def _place(name: str, text: str) -> Place:
    try:
        return Place.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.detail}", name) from None


async def _page(call: Call, session: str, limit: int, after: int) -> tuple[list[Message], bool]:
    """Return the messages after ``after``, and True if there are more.

    They are read in steps until they are enough or long enough: a front door cannot hold 500 replies of 8 MiB.
    """
    found: list[Message] = []
    size = 0
    while len(found) <= limit and size <= LONG_PAGE:
        wanted = min(STEP, limit + 1 - len(found))
        step = await call.services.store.list_messages(session, call.access, wanted, after)
        found += step
        if len(step) < wanted:
            return found, False
        after = step[-1].seq
        size += sum(len(each.text) + len(each.response or "") for each in step)
    return found[:limit], True


async def _running(turns: Turns, page: list[Message]) -> dict[str, MessageStatus]:
    """Return the state of the oldest message without a result, if it is on the page: no other one can run."""
    oldest = next((message for message in page if message.status is None), None)
    return {oldest.id: (await turns.progress(oldest)).status} if oldest is not None else {}


class EventStream(Response):
    """The feed of one session as a response that ends with the session, the client or the server."""

    def __init__(self, services: Services, session: str, after: Place) -> None:
        super().__init__()
        self._pieces = _pieces(services, session, after)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await sse.stream(self._pieces, receive, send)


async def _pieces(services: Services, session: str, after: Place) -> AsyncGenerator[bytes, None]:
    try:
        if (failure := await services.turns.failure(session)) is not None:
            yield sse.failed_start(failure)
        async with aclosing(services.feed.follow(session, after)) as items:
            async for item in items:
                if services.stopping:
                    return
                if item is None:
                    yield sse.SIGN_OF_LIFE
                elif isinstance(item, StoredEvent):
                    yield sse.event(item.kind, await _data(services, session, item), item.place)
                elif item["kind"] != START_FAILED:
                    yield sse.event(item["kind"], sse.payload(item))
                elif (failure := await services.turns.failure(session)) is not None:
                    yield sse.failed_start(failure)
    except NotFound:
        yield sse.event(DELETED, b"{}")


async def _data(services: Services, session: str, event: StoredEvent) -> bytes:
    """Return the data of a stored event. The event at the end of a turn contains its message with the result."""
    if event.message_id is not None and event.kind.startswith("turn."):
        about = await services.store.get_message(session, event.message_id, EVERYTHING)
        if about.status is not None:
            return orjson.dumps(answers.message(about, about.status))
    return event.data.encode()
