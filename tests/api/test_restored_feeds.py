"""Watchers of a session whose database was replaced by an older copy."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from session_manager.client import Client, Event
from tests.api.conftest import CLASSES
from tests.servers.front import FrontDoor, front_door, settings_for


async def told(front: FrontDoor, session: str, after: str | int, wanted: int) -> list[tuple[str, str]]:
    """Return the first recorded events after ``after``, with the message of each, and resets."""

    def read() -> list[Event]:
        found = []
        with Client(front.url) as client:
            for event in client.events(session, after):
                if event is not None and (event.id or event.kind == "feed.reset"):
                    found.append(event)
                if len(found) == wanted:
                    break
        return found

    async with asyncio.timeout(20):
        return [(each.id or each.kind, each.data.get("message", "")) for each in await asyncio.to_thread(read)]


async def test_a_watcher_misses_nothing_of_a_restored_database(tmp_path: Path, redis_url: str):
    settings = settings_for(tmp_path, redis_url, session_classes=CLASSES)
    database = tmp_path / "sessions.db"
    async with front_door(settings) as front:
        session = await front.create()
        for message in ("one", "two"):
            await front.chat(session, message)
        before = await told(front, session, 0, 2)
    shutil.copy(database, tmp_path / "older.db")
    async with front_door(settings) as front:
        for message in ("lost", "lost too"):
            await front.chat(session, message)
        lost = await told(front, session, before[-1][0], 2)
    assert [text for _, text in lost] == ["lost", "lost too"]
    for file in tmp_path.glob("sessions.db*"):
        file.unlink()
    shutil.copy(tmp_path / "older.db", database)
    async with front_door(settings) as front:
        reset = ("feed.reset", "")
        assert await told(front, session, lost[-1][0], 3) == [reset, *before]
        assert await told(front, session, 4, 3) == [reset, *before]
        for message in ("three", "four", "five"):
            await front.chat(session, message)
        assert [text for _, text in await told(front, session, before[-1][0], 3)] == ["three", "four", "five"]
        again = await told(front, session, lost[-1][0], 6)  # its number exists again, as another event
        assert again[0] == reset
        assert [text for _, text in again[1:]] == ["one", "two", "three", "four", "five"]
