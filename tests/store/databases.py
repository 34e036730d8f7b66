"""The engines of the contract: an empty database of each, which a test may open several times."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from session_manager.domain.access import EVERYTHING
from session_manager.domain.message import NewMessage, Outcome
from session_manager.domain.times import Micros
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.protocol import NewSession
from session_manager.store.schema.upgrade import Migration
from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.adapter import SqliteStore, Workers

DAY = 86_400_000_000
DONE = Outcome.processed('{"reply": "hello"}')


class Database(Protocol):
    """A database. ``rows`` accesses it without the store."""

    def store(self, patience: float = 5.0, migrations: Sequence[Migration] | None = None) -> SqlStore: ...
    async def rows(self, sql: str) -> list[tuple[Any, ...]]: ...


@dataclass
class SqliteDatabase:
    path: Path
    workers: Workers

    def store(self, patience: float = 5.0, migrations: Sequence[Migration] | None = None) -> SqlStore:
        return SqliteStore(self.path, patience, workers=self.workers, migrations=migrations)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        self.path.parent.mkdir(exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@dataclass
class PostgresDatabase:
    uri: str

    def store(self, patience: float = 5.0, migrations: Sequence[Migration] | None = None) -> SqlStore:
        return PostgresStore(self.uri, 4, patience, migrations=migrations)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.uri)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@dataclass
class Opened:
    """Stores that a test opened. They are closed at its end."""

    database: Database
    stores: list[SqlStore] = field(default_factory=list)

    async def __call__(self, patience: float = 5.0, migrations: Sequence[Migration] | None = None) -> SqlStore:
        store = self.database.store(patience, migrations)
        await store.start()
        self.stores.append(store)
        return store

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


def new_id() -> str:
    return str(uuid.uuid4())


def new_session(user: str = "ann", ttl: int = DAY, class_name: str = "default", name: str | None = None) -> NewSession:
    return NewSession(new_id(), user, class_name, ttl, name)  # type: ignore[arg-type]


def new_message(session: str, text: str = "hello", caller: str = "web", **kwargs: Any) -> NewMessage:
    return NewMessage(kwargs.pop("id", new_id()), session, text, caller, **kwargs)


async def make(store: SqlStore, **kwargs: Any) -> str:
    """Create a session and return its id."""
    return (await store.create_session(new_session(**kwargs))).uuid


async def say(store: SqlStore, session: str, text: str = "hello") -> str:
    """Accept a message and return its id."""
    return (await store.accept(new_message(session, text), EVERYTHING)).message.id


async def pass_time(store: SqlStore) -> Micros:
    """Wait until the database's clock has advanced by a microsecond."""
    before = await store.now()
    while (now := await store.now()) <= before:
        pass
    return now
