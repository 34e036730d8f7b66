"""Retrying what failed because a dependency is unavailable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from session_manager.domain.errors import Unavailable

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


async def until_available(
    action: Callable[[], Awaitable[T]],
    backoff: Backoff = BACKOFF,
    on_failure: Callable[[Unavailable], None] = lambda _: None,
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
