"""The page of the schema shows the tables of both engines, and its queries return the described counts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.adapter import SqliteStore
from tests.databases.schema_page import COLUMNS, PAGE, QUERIES, TABLES, page, types_of_both
from tests.store.databases import make, say


async def test_the_page_shows_the_tables_of_both_engines(tmp_path: Path, postgres_uri: str):
    sqlite, postgres = await types_of_both(tmp_path, postgres_uri)
    assert set(sqlite) | {"adk_internal_metadata"} == set(postgres) == set(TABLES)
    for name, types in postgres.items():
        told = set(COLUMNS[name]) if name not in ("app_states", "events") else set(types)
        assert told == set(types), name
    assert PAGE.read_text("utf-8") == page(sqlite, postgres), "run: make docs"


@pytest.mark.parametrize("engine", ["SQLite", "PostgreSQL"])
async def test_the_queries_count_the_last_hour(engine: str, tmp_path: Path, postgres_uri: str):
    path = tmp_path / "sessions.db"
    store: SqlStore = SqliteStore(path) if engine == "SQLite" else PostgresStore(postgres_uri, 1)
    await store.start()
    sessions = [await make(store) for _ in range(4)]
    for session in sessions:
        await say(store, session)
    await store.delete_session(sessions[0], EVERYTHING)
    await store.close()
    assert await ask(engine, path, postgres_uri) == [3, 3]
    old = f"UPDATE session SET last_activity = last_activity - 3601000000 WHERE uuid = '{sessions[1]}'"
    hour = "3601" if engine == "SQLite" else "interval '3601 seconds'"
    adk = f"UPDATE sessions SET update_time = update_time - {hour} WHERE id = '{sessions[1]}'"
    assert await ask(engine, path, postgres_uri, old, adk) == [2, 2]


async def ask(engine: str, path: Path, uri: str, *changes: str) -> list[int]:
    """Return the counts of the page's queries for an engine after some changes."""
    queries = [query for title, query in QUERIES.items() if title.startswith(engine)]
    if engine == "SQLite":
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            for change in changes:
                file.execute(change)
            return [file.execute(query).fetchone()[0] for query in queries]
    connection = await asyncpg.connect(uri)
    try:
        for change in changes:
            await connection.execute(change)
        return [await connection.fetchval(query) for query in queries]
    finally:
        await connection.close()
