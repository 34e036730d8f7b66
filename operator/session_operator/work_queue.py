"""A queue of keys to reconcile. A key is queued at most once, and never reconciled twice at the same time.

A key that is added while it is being reconciled is reconciled once more.  A key that fails is retried with back-off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import SessionManagerError
from session_manager.runtime.kubernetes.cluster import ApiError
from session_operator.once import Once

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.5, 60.0)  # between tries of one key
PUT_OFF_LOOK = 0.25  # seconds between looks at a key that was put off


class NotYet(Exception):
    """Raised by work that is to be continued in ``seconds``. Nothing is wrong."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(slots=True, eq=False)
class PutOff:
    """Lets less urgent work wait for more urgent work, but no key for longer than ``latest`` seconds."""

    latest: float
    since: dict[str, float] = field(default_factory=dict)

    def wait(self, key: str, *, while_: bool) -> None:
        """Raise NotYet while ``while_`` is True, unless the key has waited for too long."""
        now = asyncio.get_running_loop().time()
        if while_ and now - self.since.setdefault(key, now) < self.latest:
            raise NotYet(PUT_OFF_LOOK)
        self.since.pop(key, None)


@dataclass(slots=True, eq=False)
class WorkQueue:
    """``observe`` is called after each piece of work with its result and its seconds.

    The result is ``done``, ``waits`` (NotYet) or ``failed``.
    """

    work: Callable[[str], Awaitable[None]]
    workers: int
    observe: Callable[[str, float], None] = lambda result, seconds: None
    waiting: dict[str, None] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)
    delayed: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    something: asyncio.Event = field(default_factory=asyncio.Event)
    problems: Once = field(default_factory=lambda: Once(log))

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, key: str) -> None:
        delayed = self.delayed.pop(key, None)
        if delayed is not None:
            delayed.cancel()
        self.waiting[key] = None
        self.something.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.workers):
                    group.create_task(self._serve(), name=f"reconciler {number}")
        finally:
            for delayed in self.delayed.values():
                delayed.cancel()

    async def _serve(self) -> None:
        while True:
            key = self._take()
            if key is None:
                self.something.clear()
                await self.something.wait()
                continue
            began = time.monotonic()
            result = await self._do(key)
            self.observe(result, time.monotonic() - began)
            self.busy.discard(key)
            self.something.set()

    async def _do(self, key: str) -> str:
        """Work on the key once, and return the result."""
        try:
            await self.work(key)
        except NotYet as wait:
            self._works(key)
            self._delay(key, wait.seconds)
            return "waits"
        except Exception as error:
            self._retry(key, error)
            return "failed"
        self._works(key)
        return "done"

    def _works(self, key: str) -> None:
        self.tries.pop(key, None)
        self.problems.over(key)

    def _take(self) -> str | None:
        key = next((key for key in self.waiting if key not in self.busy), None)
        if key is not None:
            del self.waiting[key]
            self.busy.add(key)
        return key

    def _retry(self, key: str, error: Exception) -> None:
        self.tries[key] += 1
        expected = isinstance(error, (SessionManagerError, ApiError))
        words = f"reconciling failed and is retried: {str(error) or repr(error)}"
        self.problems.warn(key, words, "reconcile.failed", None if expected else error)
        self._delay(key, BACKOFF.pause(self.tries[key]))

    def _delay(self, key: str, pause: float) -> None:
        self.delayed[key] = asyncio.get_running_loop().call_later(pause, self.add, key)
