from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers.front import FrontDoor, front_door, settings_for

CLASSES = Path(__file__).parents[1] / "servers" / "agents" / "classes.yaml"


@pytest.fixture
async def start(tmp_path: Path, redis_url: str) -> AsyncIterator[Any]:
    """Start front doors over one Redis, one database and one data folder; settings as keywords."""
    async with AsyncExitStack() as stack:

        async def start_one(**overrides: Any) -> FrontDoor:
            overrides = {"session_classes": CLASSES, **overrides}
            return await stack.enter_async_context(front_door(settings_for(tmp_path, redis_url, **overrides)))

        yield start_one


@pytest.fixture
async def front(start: Any) -> FrontDoor:
    return await start()
