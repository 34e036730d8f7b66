"""The two sides: our store, and google-adk's service for the same layout. Each does the same things to its database."""

from __future__ import annotations

import uuid
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.adk.events.event import Event
    from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
    from google.genai import types

from session_manager.domain.access import OwnedBy
from session_manager.domain.adk.model import AdkEvent, AdkKey, NewAdkSession, split_state
from session_manager.domain.times import micros
from session_manager.store.protocol import AdkQuery
from session_manager.store.sql import SqlStore

APP = "bench"
DAY = micros(86_400)
TEXT = "The quick brown fox jumps over the lazy dog, and it is unknown why it would do so again and again. " * 2


def new_event(delta: dict[str, Any] | None = None) -> Event:
    """Return an event of about 600 stored bytes."""
    content = types.Content(role="model", parts=[types.Part(text=TEXT)])
    event = Event(author="agent", content=content, invocation_id=f"e-{uuid.uuid4()}")
    event.actions.state_delta.update(delta or {})
    return event


def as_stored(event: Event) -> AdkEvent:
    data = event.model_dump_json(exclude_none=True)
    return AdkEvent(event.id, event.invocation_id, event.timestamp, data, split_state(event.actions.state_delta))


class Side(ABC):
    """``session``: the state that this side needs to continue, with the update time that it has seen."""

    name: str

    @abstractmethod
    async def create(self, user: str) -> Any: ...
    @abstractmethod
    async def append(self, session: Any, event: Event) -> None: ...
    @abstractmethod
    async def list_all(self, user: str) -> int: ...
    @abstractmethod
    async def get(self, key: AdkKey, recent: int | None) -> int: ...


@dataclass
class _Seen:
    key: AdkKey
    update_time: float


class Ours(Side):
    name = "session-manager"

    def __init__(self, store: SqlStore) -> None:
        self.store = store

    async def create(self, user: str) -> _Seen:
        new = str(uuid.uuid4())
        _, session = await self.store.adk_create(NewAdkSession(new, AdkKey(APP, user, new), "default", DAY))
        return _Seen(session.key, session.update_time)

    async def append(self, session: _Seen, event: Event) -> None:
        session.update_time = await self.store.adk_append(session.key, [as_stored(event)], seen=session.update_time)

    async def list_all(self, user: str) -> int:
        return len((await self.store.adk_list(AdkQuery(APP, OwnedBy(user)))).sessions)

    async def list_first(self, user: str, limit: int) -> int:
        return len((await self.store.adk_list(AdkQuery(APP, OwnedBy(user), limit=limit))).sessions)

    async def get(self, key: AdkKey, recent: int | None) -> int:
        return len((await self.store.adk_get(key, recent)).events)


class Theirs(Side):
    """Read with their services, which always return parsed objects."""

    def __init__(self, service: BaseSessionService) -> None:
        self.service = service
        self.name = type(service).__name__

    async def create(self, user: str) -> Any:
        return await self.service.create_session(app_name=APP, user_id=user)

    async def append(self, session: Any, event: Event) -> None:
        await self.service.append_event(session, event)

    async def list_all(self, user: str) -> int:
        return len((await self.service.list_sessions(app_name=APP, user_id=user)).sessions)

    async def get(self, key: AdkKey, recent: int | None) -> int:
        config = GetSessionConfig(num_recent_events=recent) if recent is not None else None
        names = {"app_name": key.app, "user_id": key.user_id, "session_id": key.id}
        session = await self.service.get_session(**names, config=config)
        return len(session.events) if session else 0
