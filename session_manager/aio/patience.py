"""Waiting for dependencies that are away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from session_manager.domain.errors import Unavailable

RETRY_FIRST = 0.1
RETRY_LAST = 2.0

T = TypeVar("T")


async def until_available(action: Callable[[], Awaitable[T]]) -> T:
    """Repeat while a dependency is away: what a pod has done is never thrown away because of a pause."""
    pause = RETRY_FIRST
    while True:
        try:
            return await action()
        except Unavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST)


class Owed:
    """What a dependency that is away has to be told once it is back."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def add(self, action: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.ensure_future(until_available(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what is still owed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
