"""Routes of the messages of a session, and its live feed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.types import Receive, Scope, Send

from session_manager.api import answers, cursors, sse
from session_manager.api.limits import CurrentActor, RouteLimits
from session_manager.api.paths import MessageId, SessionId
from session_manager.api.schemas import MessageAnswer, MessageList
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.domain.message import Message, MessageStatus, StoredEvent
from session_manager.store.protocol import Store
from session_manager.wiring.services import Services

STEP = 25  # messages read at once
LONG_PAGE = 16 * 1024 * 1024  # characters of messages and replies behind which a page ends


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["turns"], dependencies=[Depends(limits.read)])

    @routes.get("/session/{session_id}/messages", response_model=MessageList)
    async def list_messages(
        session_id: SessionId,
        actor: CurrentActor,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str | None, Query()] = None,
    ) -> Response:
        """The messages of a session with their results, oldest first. A page of long ones ends before ``limit``."""
        after = cursors.decode(cursor, int)[0] if cursor is not None else 0
        page, more = await _page(services.store, session_id, limit, int(after), actor.access)
        running = await _running(services, page)
        rows = [answers.message(each, each.status or _state(each, running)) for each in page]
        following = cursors.encode((page[-1].seq,)) if more else None
        return answers.json({"messages": rows, "next_cursor": following})

    @routes.get("/session/{session_id}/messages/{message_id}", response_model=MessageAnswer)
    async def get_message(session_id: SessionId, message_id: MessageId, actor: CurrentActor) -> Response:
        """One message with its result, or how far it is."""
        message = await services.store.get_message(session_id, message_id, actor.access)
        return answers.json(answers.message(message, await services.turns.state(message)))

    @routes.post("/session/{session_id}/messages/{message_id}/cancel", response_model=MessageAnswer)
    async def cancel(session_id: SessionId, message_id: MessageId, actor: CurrentActor) -> Response:
        """End a message that has no result yet. If it runs its pod is replaced; 409 if it has ended."""
        message = await services.turns.cancel(session_id, message_id, actor.access)
        return answers.json(answers.message(message, await services.turns.state(message)))

    @routes.get("/session/{session_id}/events", responses={200: {"content": {"text/event-stream": {}}}})
    async def events(
        session_id: SessionId,
        actor: CurrentActor,
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Server-sent events: what was recorded, numbered and without a gap, and live notes between.

        Resume with Last-Event-ID, as browsers do by themselves, or ``after``.
        """
        await services.store.get_session(session_id, actor.access)
        return EventStream(services, session_id, _number(last_event_id, after))

    return routes


def _number(last_event_id: str | None, after: int) -> int:
    if last_event_id is None:
        return after
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise InvalidInput("Last-Event-ID: must be a number that this server sent", "Last-Event-ID")
    return int(last_event_id)


async def _page(store: Store, session: str, limit: int, after: int, access: Access) -> tuple[list[Message], bool]:
    """The messages behind ``after``, and whether there are more.

    Read in steps, until they are enough or long enough: 500 replies of 8 MiB would be more than a front door may hold.
    """
    found: list[Message] = []
    size = 0
    while len(found) <= limit and size <= LONG_PAGE:
        wanted = min(STEP, limit + 1 - len(found))
        step = await store.list_messages(session, access, wanted, after)
        found += step
        if len(step) < wanted:
            return found, False
        after = step[-1].seq
        size += sum(len(each.text) + len(each.response or "") for each in step)
    return found[:limit], True


async def _running(services: Services, page: list[Message]) -> str | None:
    """The id of the running message, if one of the page may be it."""
    for message in page:
        if message.status is None:
            return message.id if await services.turns.state(message) is MessageStatus.RUNNING else None
    return None


def _state(message: Message, running: str | None) -> MessageStatus:
    return MessageStatus.RUNNING if message.id == running else MessageStatus.QUEUED


class EventStream(Response):
    """The feed of one session as a response that ends with the session, the client or the server."""

    def __init__(self, services: Services, session: str, after: int) -> None:
        super().__init__()
        self._services = services
        self._session = session
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await sse.stream(self._pieces(), receive, send)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._services.feed.follow(self._session, self._after)) as items:
                async for item in items:
                    if self._services.stopping:
                        return
                    if item is None:
                        yield sse.SIGN_OF_LIFE
                    elif isinstance(item, StoredEvent):
                        yield sse.event(item.kind, await self._data(item), item.number)
                    else:
                        yield sse.event(item["kind"], sse.payload(item))
        except NotFound:
            yield sse.event("session.deleted", b"{}")

    async def _data(self, event: StoredEvent) -> bytes:
        about = None
        if event.message_id is not None and event.kind.startswith("turn."):
            about = await self._services.store.get_message(self._session, event.message_id, EVERYTHING)
        return answers.event_data(event, about)
