"""Fixtures of the store's contract: a test that uses ``database`` or ``store`` runs on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.adapter import inline, threads
from tests.servers import shared
from tests.servers.postgres import PostgresServer, postgres_server
from tests.store.databases import Database, Opened, PostgresDatabase, SqliteDatabase, new_id

_EMPTY = """
DO $$ BEGIN
    IF to_regclass('session') IS NOT NULL THEN
        TRUNCATE session, message, session_event, sessions, events, app_states, user_states, adk_note, artifact, memory,
            installation, user_usage;
    END IF;
END $$
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server("deadlock_timeout=50ms") as server, shared(server.pid):
        yield server


@pytest.fixture
def postgres_uri(postgres: PostgresServer) -> Iterator[str]:
    """Return a new empty database."""
    name = f"test_{new_id()}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def _shared_database(postgres: PostgresServer) -> str:
    return postgres.create_database("shared")


@pytest.fixture
def _emptied_database(postgres: PostgresServer, _shared_database: str) -> str:
    """Return a database without rows, usually with the schema of this version. This is much faster than a new one."""
    postgres.execute(_EMPTY, "shared")
    return _shared_database


@pytest.fixture(params=["sqlite", "inline", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "postgresql":
        return PostgresDatabase(request.getfixturevalue("_emptied_database"))
    return SqliteDatabase(tmp_path / "sessions" / "sessions.db", threads if request.param == "sqlite" else inline)


@pytest.fixture
async def opened(database: Database) -> AsyncIterator[Opened]:
    """Open more stores on the same database."""
    opened = Opened(database)
    yield opened
    await opened.close()


@pytest.fixture
async def store(opened: Opened) -> SqlStore:
    return await opened()
