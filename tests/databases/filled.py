"""Fills a database like one in use, and reads it like an ADK client."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from google.adk.events import Event, EventActions
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from session_manager.domain.access import EVERYTHING
from session_manager.domain.message import Outcome
from tests.store.databases import make, new_message, opened, say

APP, USER = "weather", "ann"
ODD_TEXT = 'quote " backslash \\ \\u0000 snow ☃ rocket 🚀'
STATE = {
    "plain": 1,
    "nested": {"list": [1, 2.5, None, True], "text": ODD_TEXT},
    "huge": 2**80,
    "tiny": 0.1 + 0.2,
    "far": 1e300,
    "app:shared": {"a": 1},
    "user:own": "x",
}


async def fill(path: Path) -> None:
    """Create our own sessions, ADK's sessions, and a row in each of the other tables."""
    async with opened(path) as store:
        for user in ("ann", "bob"):
            session = await make(store, user=user)
            for number in range(3):
                message = await say(store, session, f"hello {number} {ODD_TEXT}")
                await store.record(message, 1, Outcome.processed('{"reply": "hi"}'), [("turn", '{"a": 1}')])
            await store.accept(new_message(session, idempotency_key=f"key {user}", body_hash="0"), EVERYTHING)
        deleted = await make(store)
        await store.delete_session(deleted, EVERYTHING)
    await converse(SqliteSessionService(str(path)))
    with closing(sqlite3.connect(path)) as connection:
        [uuid] = connection.execute("SELECT uuid FROM session WHERE deleted_at IS NULL LIMIT 1").fetchone()
        connection.execute(
            "INSERT INTO artifact VALUES ('weather', 'ann', ?, 'map.png', 0, '{}', 'image/png', '{}', 1.25)", (uuid,)
        )
        connection.execute(
            "INSERT INTO memory VALUES ('weather', 'ann', ?, 'e', 1795244488.4586432, ' snow ', '{}')", (uuid,)
        )
        connection.execute("INSERT OR IGNORE INTO installation VALUES ('key', 'value')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file alone is complete


async def converse(service: SqliteSessionService | DatabaseSessionService) -> None:
    """Create sessions of two users, one without shared state, and some events with the same time."""
    for user in (USER, "bob"):
        state: dict[str, Any] = STATE if user == USER else {}
        session = await service.create_session(
            app_name=APP if user == USER else "other", user_id=user, session_id=f"of {user}", state=state
        )
        for number in range(5):
            event = Event(
                invocation_id=f"turn {number // 2}",
                author="user",
                timestamp=1795244488.4586432 + number // 2,
                content=types.Content(role="user", parts=[types.Part(text=f"{number} {ODD_TEXT}")]),
                actions=EventActions(state_delta={"count": number, "user:seen": number} if user == USER else {}),
            )
            await service.append_event(session, event)


async def read(service: SqliteSessionService | DatabaseSessionService) -> list[dict[str, Any]]:
    """Return everything that an ADK client sees."""
    found = []
    for app in (APP, "other"):
        listed = await service.list_sessions(app_name=app)
        for each in sorted(listed.sessions, key=lambda session: session.id):
            session = await service.get_session(app_name=app, user_id=each.user_id, session_id=each.id)
            assert session is not None
            found.append(_comparable(session.model_dump(mode="json")))
    return found


def _comparable(session: dict[str, Any]) -> dict[str, Any]:
    """Return a session with times in microseconds as in PostgreSQL, and events of the same time sorted."""
    session["last_update_time"] = round(session["last_update_time"], 6)
    for event in session["events"]:
        event["timestamp"] = round(event["timestamp"], 6)
    session["events"].sort(key=lambda event: (event["timestamp"], event["id"]))
    session.pop("storage_update_marker", None)
    return session
