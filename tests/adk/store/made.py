"""Keys, events and sessions for tests."""

from __future__ import annotations

import json
from typing import Any

from session_manager.domain.adk.model import AdkEvent, AdkKey, NewAdkSession, split_state
from session_manager.store.protocol import NewSession
from session_manager.store.sql import SqlStore
from tests.store.databases import DAY, new_id


def event(timestamp: float = 1e9, delta: dict[str, Any] | None = None, text: str = "hello", **fields: Any) -> AdkEvent:
    """Return an event as ADK writes it. Keys of ``delta`` have their prefixes; ``data`` replaces the whole JSON."""
    event_id, invocation = fields.pop("id", new_id()), fields.pop("invocation_id", "i")
    data = {
        "content": {"parts": [{"text": text}], "role": "user"},
        "invocation_id": invocation,
        "author": "user",
        "actions": {"state_delta": delta or {}, "artifact_delta": {}},
        "id": event_id,
        "timestamp": timestamp,
        **fields,
    }
    raw = fields.get("data") or json.dumps(data)
    return AdkEvent(event_id, invocation, timestamp, raw, split_state(delta or {}))


def new_key(app: str = "app", user: str = "ann") -> AdkKey:
    return AdkKey(app, user, new_id())


async def made(store: SqlStore, key: AdkKey | None = None, **fields: Any) -> AdkKey:
    """Create a session and return its key."""
    key = key or new_key()
    await store.adk_create(NewAdkSession(new_id(), key, "default", DAY, **fields))  # type: ignore[arg-type]
    return key


async def key_of(store: SqlStore, new: NewSession) -> AdkKey:
    """Create a session with our own API and return its key."""
    session = await store.create_session(new)
    return AdkKey(session.app, session.user_id, session.adk_id)


def texts(events: list[str]) -> list[str]:
    """Return the texts of the events."""
    return [json.loads(data)["content"]["parts"][0]["text"] for data in events]


def ids(events: list[str]) -> list[str]:
    return [json.loads(data)["id"] for data in events]
