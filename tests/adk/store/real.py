"""Real ADK services on the database of a test."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.adk.errors._stale_session_error import StaleSessionError
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.events.event import Event
    from google.adk.events.event_actions import EventActions
    from google.adk.sessions.base_session_service import BaseSessionService
    from google.adk.sessions.database_session_service import DatabaseSessionService
    from google.adk.sessions.session import Session
    from google.adk.sessions.sqlite_session_service import SqliteSessionService
    from google.genai import types

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkSession, split_state
from tests.store.databases import Database, PostgresDatabase, SqliteDatabase

__all__ = ["AlreadyExistsError", "BaseSessionService", "Event", "Session", "StaleSessionError"]

DRIVERS = ("native", "asyncpg", "psycopg")


@dataclass
class Peers:
    """Opens real services, each with its own connections, like another program."""

    database: Database
    driver: str

    def open(self) -> BaseSessionService:
        if isinstance(self.database, SqliteDatabase):
            return SqliteSessionService(str(self.database.path))
        assert isinstance(self.database, PostgresDatabase)
        return DatabaseSessionService(self.database.uri.replace("postgresql:", f"postgresql+{self.driver}:"))

    @asynccontextmanager
    async def __call__(self, count: int = 1) -> AsyncIterator[list[BaseSessionService]]:
        services = [self.open() for _ in range(count)]
        try:
            yield services
        finally:
            for service in services:
                await service.close()  # type: ignore[attr-defined]


def text_content(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def adk_event(text: str = "hello", delta: dict[str, Any] | None = None, author: str = "user", **fields: Any) -> Event:
    content = text_content(text)
    actions = EventActions(state_delta=delta or {})
    return Event(author=author, content=content, actions=actions, **{"invocation_id": "i"} | fields)


def as_stored(event: Event) -> AdkEvent:
    """Return the event as our side stores it."""
    data = event.model_dump_json(exclude_none=True)
    delta = split_state(event.actions.state_delta)
    return AdkEvent(event.id, event.invocation_id, event.timestamp, data, delta)


def same(theirs: Session | None, ours: AdkSession) -> None:
    """Check that both sides read the same."""
    assert theirs is not None
    assert AdkKey(theirs.app_name, theirs.user_id, theirs.id) == ours.key
    assert theirs.state == ours.state
    assert theirs.last_update_time == ours.update_time
    assert theirs.events == [Event.model_validate_json(data) for data in ours.events]


async def get(service: BaseSessionService, key: AdkKey) -> Session:
    session = await service.get_session(**names(key))
    assert session is not None
    return session


def names(key: AdkKey) -> dict[str, Any]:
    """Return the key as arguments of the services' methods."""
    return {"app_name": key.app, "user_id": key.user_id, "session_id": key.id}


async def append_patiently(service: BaseSessionService, key: AdkKey, event: Event) -> None:
    """Append like an agent: after a stale copy, read again and retry."""
    while True:
        session = await get(service, key)
        try:
            await service.append_event(session, event)
        except StaleSessionError:
            continue
        return
