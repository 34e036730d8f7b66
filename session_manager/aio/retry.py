"""Retrying what failed because a dependency is unavailable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import Unavailable

log = logging.getLogger(__name__)

MAX_DOUBLINGS = 30  # far beyond any ``last``, and still a float

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: seconds between tries, from ``first``, doubling up to ``last``."""

    first: float
    last: float

    def pause(self, failures: int) -> float:
        """Return the seconds to wait after this many failures, counted from 1."""
        return min(self.first * 2.0 ** min(failures - 1, MAX_DOUBLINGS), self.last)

    def pauses(self) -> Iterator[float]:
        """Yield the pause after each failure, endlessly. Begin a new iterator after a success."""
        return map(self.pause, count(1))


BACKOFF = Backoff(0.1, 2.0)


def ignore(_: Unavailable) -> None:
    """The default for ``on_failure``."""


async def until_available(
    action: Callable[[], Awaitable[T]],
    backoff: Backoff = BACKOFF,
    on_failure: Callable[[Unavailable], None] = ignore,
) -> T:
    """Repeat ``action`` while it raises Unavailable, and return its result."""
    failures = 0
    while True:
        try:
            return await action()
        except Unavailable as error:
            on_failure(error)
        failures += 1
        await asyncio.sleep(backoff.pause(failures))


class Retries:
    """Actions that are repeated in the background until the dependency they need is available."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def add(self, action: Callable[[], Awaitable[object]]) -> None:
        task = asyncio.ensure_future(until_available(action))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a repeated action failed", exc_info=task.exception(), extra={"event": "retry.failed"})

    async def close(self) -> None:
        """Give up all that have not succeeded yet."""
        await cancel(*self._tasks)
