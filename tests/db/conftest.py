"""Databases with everything in them: our sessions with their messages, and what real ADK services wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.db.filled import fill
from tests.servers import shared
from tests.servers.postgres import PostgresServer, postgres_server
from tests.store.databases import new_id


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server, shared(server.pid):
        yield server


@pytest.fixture
def postgres_uri(postgres: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{new_id()}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """A SQLite file with something in every table."""
    path = tmp_path / "source.db"
    await fill(path)
    return path
