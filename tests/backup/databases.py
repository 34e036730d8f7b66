"""Databases of this program to back up, and reading them back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from session_manager.aio.ids import new_id
from session_manager.domain.access import EVERYTHING
from session_manager.domain.message import NewMessage
from session_manager.domain.times import Micros
from session_manager.store.protocol import NewSession
from session_manager.store.sql import SqlStore
from tests.store.databases import opened


async def add_session(store: SqlStore) -> str:
    new = NewSession(uuid=new_id(), user_id="ada", class_name="default", name=None, ttl=Micros(3_600_000_000))
    return (await store.create_session(new)).uuid


async def say(store: SqlStore, session: str, text: str) -> None:
    await store.accept(NewMessage(id=new_id(), session=session, caller="test", text=text), EVERYTHING)


async def fill(path: Path, sessions: int, messages: int, text: str = "hello") -> None:
    async with opened(path) as store:
        for _ in range(sessions):
            session = await add_session(store)
            await asyncio.gather(*(say(store, session, f"{text} {number}") for number in range(messages)))


def texts(path: Path) -> list[str]:
    """Return the texts of all messages, in the order in which they were accepted."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [text for (text,) in database.execute("SELECT text FROM message ORDER BY accepted_at, rowid")]
