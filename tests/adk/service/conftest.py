"""Front doors for a whole module, on either engine: each test has an app of its own in them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.adk.sessions import BaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from session_manager.adk import SessionManagerSessionService
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.keeper import keeper_shared
from tests.servers.redis import RedisServer
from tests.store.conftest import postgres

__all__ = ["postgres"]

ENGINES = ["sqlite", "postgresql"]


def service_of(front: FrontDoor, key: str | None = None) -> SessionManagerSessionService:
    return SessionManagerSessionService(front.url.replace("http", "session-manager"), agents_dir="agents", key=key)


@asynccontextmanager
async def opened(engine: str, request: pytest.FixtureRequest, **facts: Any) -> AsyncIterator[FrontDoor]:
    redis: RedisServer = request.getfixturevalue("redis_server")
    folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("door")
    redis.flush()
    if engine == "postgresql":
        facts["session_db_uri"] = request.getfixturevalue("postgres").create_database(f"test_{uuid.uuid4().hex}")
    async with front_door(settings_for(folder, redis.url, **facts)) as front:
        yield front


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def front(request: pytest.FixtureRequest) -> AsyncIterator[FrontDoor]:
    async with opened(request.param, request) as front, keeper_shared():
        yield front


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ours(front: FrontDoor) -> AsyncIterator[SessionManagerSessionService]:
    service = service_of(front)
    yield service
    await service.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[*ENGINES, "theirs"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[BaseSessionService]:
    """Ours on either engine, and a service of google-adk's own, which is right where they differ."""
    if request.param == "theirs":
        theirs = SqliteSessionService(str(request.getfixturevalue("tmp_path_factory").mktemp("theirs") / "theirs.db"))
        yield theirs
        await theirs.close()
        return
    async with opened(request.param, request) as front, keeper_shared():
        ours = service_of(front)
        yield ours
        await ours.close()


@pytest.fixture
def who() -> dict[str, str]:
    """An app of the test's own, and its user."""
    return {"app_name": f"app-{uuid.uuid4()}", "user_id": "ada"}
