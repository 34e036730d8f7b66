"""Routes of the messages of a session, and its live feed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
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

STEP = 8  # messages read at first; four times as many each further time
LONG_PAGE = 1024 * 1024  # characters of messages and replies after which a page ends


async def list_messages(
    call: CurrentCall,
    session_id: SessionId,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query()] = None,
) -> Response:
    """The messages of a session with their results, oldest first. A page of long ones ends before ``limit``."""
    after = answers.key_of(cursor, int)[0] if cursor is not None else 0
    async with call.reads:
        page, more = await _page(call, session_id, limit, int(after))
        running = await _running(call.services.turns, page)
        rows = [answers.message(each, each.status or running.get(each.id, MessageStatus.QUEUED)) for each in page]
        following = answers.cursor_of((page[-1].seq,)) if more else None
        return answers.json({"messages": rows, "next_cursor": following})


async def get_message(call: CurrentCall, session_id: SessionId, message_id: MessageId) -> Response:
    """One message with its result or its progress."""
    async with call.reads:
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
    return EventStream(call, session_id, place)


def _place(name: str, text: str) -> Place:
    try:
        return Place.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.detail}", name) from None


async def _page(call: Call, session: str, limit: int, after: int) -> tuple[list[Message], bool]:
    """Return the messages after ``after``, and True if there may be more.

    They are read in steps, so that the database measures no more messages than fit, until they are enough or long
    enough. One message may be longer than a page.
    """
    found: list[Message] = []
    room, step = LONG_PAGE, STEP
    while len(found) <= limit:
        wanted = min(step, limit + 1 - len(found))
        some = await call.services.store.list_messages(session, call.access, wanted, after, room)
        found += some
        room -= sum(len(each.text) + len(each.response or "") + len(each.payload or "") for each in some)
        if room <= 0:
            return found[:limit], True
        if len(some) < wanted:
            return found, False
        after, step = some[-1].seq, 4 * step
    return found[:limit], True


async def _running(turns: Turns, page: list[Message]) -> dict[str, MessageStatus]:
    """Return the state of the oldest message without a result, if it is on the page: no other one can run."""
    oldest = next((message for message in page if message.status is None), None)
    return {oldest.id: (await turns.progress(oldest)).status} if oldest is not None else {}


class EventStream(Response):
    """The feed of one session as a response that ends with the session, the client or the server."""

    def __init__(self, call: Call, session: str, after: Place) -> None:
        super().__init__()
        self._share = call.share
        self._pieces = _pieces(call, session, after)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await sse.stream(self._pieces, receive, send, self._share)


async def _pieces(call: Call, session: str, after: Place) -> AsyncGenerator[bytes, None]:
    services = call.services
    try:
        if (failure := await services.turns.failure(session)) is not None:
            yield sse.failed_start(failure)
        async with aclosing(services.feed.follow(session, after, call.share)) as items:
            async for item in items:
                if services.stopping:
                    return
                if item is None:
                    yield sse.SIGN_OF_LIFE
                elif isinstance(item, StoredEvent):
                    made = await call.parts.events.get((session, item.place), partial(_event, call, session, item))
                    yield made.result()
                elif item["kind"] != START_FAILED:
                    yield sse.live(item)
                elif (failure := await services.turns.failure(session)) is not None:
                    yield sse.failed_start(failure)
    except NotFound:
        yield sse.event(DELETED, b"{}")


async def _event(call: Call, session: str, event: StoredEvent) -> bytes:
    """Return a stored event. That at the end of a turn contains its message with the result."""
    data = event.data.encode()
    if event.message_id is None or not event.kind.startswith("turn."):
        return sse.event(event.kind, data, event.place)
    async with call.reads:
        about = await call.services.store.get_message(session, event.message_id, EVERYTHING)
        if about.status is not None:
            data = orjson.dumps(answers.message(about, about.status))
        return sse.event(event.kind, data, event.place)
