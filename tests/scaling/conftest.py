from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity


@pytest.fixture
async def activity(redis_url: str) -> AsyncIterator[RedisActivity]:
    async def nothing_unfinished() -> bool:
        return False

    link = Link.from_url(redis_url)
    activity = RedisActivity(link, lease=15.0, heartbeat=5.0, has_unfinished=nothing_unfinished)
    await activity.start()
    yield activity
    await activity.close()
