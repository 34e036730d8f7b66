"""Fixtures of the store's contract: each test runs on each engine, or with each real ADK service."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_manager.store.sqlite.adapter import inline, threads
from tests.adk.store.real import DRIVERS, Peers
from tests.store.conftest import _emptied_database, _shared_database, opened, postgres, postgres_uri, store
from tests.store.databases import Database, PostgresDatabase, SqliteDatabase

__all__ = ["_emptied_database", "_shared_database", "opened", "postgres", "postgres_uri", "store"]

ENGINES = ("sqlite", "inline", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "peers" in metafunc.fixturenames:
        metafunc.parametrize("engine", DRIVERS, indirect=True)
    elif "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Database:
    if engine in ("postgresql", "asyncpg", "psycopg"):
        return PostgresDatabase(request.getfixturevalue("_emptied_database"))
    return SqliteDatabase(tmp_path / "sessions" / "sessions.db", inline if engine == "inline" else threads)


@pytest.fixture
def peers(database: Database, engine: str) -> Peers:
    return Peers(database, engine)
