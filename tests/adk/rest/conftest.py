from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers.adk import api_server
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.store.conftest import postgres, postgres_uri

__all__ = ["postgres", "postgres_uri"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real ``adk api_server``."""
    folder: Path = tmp_path_factory.mktemp("adk")
    with api_server(folder) as address:
        yield f"http://{address.ip}:{address.port}"


@pytest.fixture(params=["sqlite", "postgresql"])
async def ours(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> AsyncIterator[FrontDoor]:
    """A front door on either engine."""
    facts = {"session_db_uri": request.getfixturevalue("postgres_uri")} if request.param == "postgresql" else {}
    async with front_door(settings_for(tmp_path, redis_url, **facts)) as front:
        yield front
