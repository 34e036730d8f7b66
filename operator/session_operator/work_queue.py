"""A queue of keys to reconcile. A key is queued at most once, and never reconciled twice at the same time.

A key that is added while it is being reconciled is reconciled once more.  A key that fails is retried with back-off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from session_manager.aio.retry import Backoff

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.5, 60.0)  # between tries of one key
PUT_OFF_LOOK = 0.25  # seconds between looks at a key that was put off


class NotYet(Exception):
    """Raised by work that is to be continued in ``seconds``. Nothing is wrong."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class PutOff:
    """Lets less urgent work wait for more urgent work, but no key for longer than ``latest`` seconds."""

    def __init__(self, latest: float) -> None:
        self._latest = latest
        self._since: dict[str, float] = {}

    def wait(self, key: str, *, while_: bool) -> None:
        """Raise NotYet while ``while_`` is True, unless the key has waited for too long."""
        now = asyncio.get_running_loop().time()
        if while_ and now - self._since.setdefault(key, now) < self._latest:
            raise NotYet(PUT_OFF_LOOK)
        self._since.pop(key, None)


class WorkQueue:
    def __init__(self, work: Callable[[str], Awaitable[None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._waiting: dict[str, None] = {}
        self._busy: set[str] = set()
        self._tries: dict[str, int] = {}
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._something = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str) -> None:
        delayed = self._delayed.pop(key, None)
        if delayed is not None:
            delayed.cancel()
        self._waiting[key] = None
        self._something.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._serve(), name=f"reconciler {number}")
        finally:
            for delayed in self._delayed.values():
                delayed.cancel()

    async def _serve(self) -> None:
        while True:
            key = self._take()
            if key is None:
                self._something.clear()
                await self._something.wait()
                continue
            try:
                await self._work(key)
                self._tries.pop(key, None)
            except NotYet as wait:
                self._tries.pop(key, None)
                self._delay(key, wait.seconds)
            except Exception as error:
                self._retry(key, error)
            finally:
                self._busy.discard(key)
                self._something.set()

    def _take(self) -> str | None:
        key = next((key for key in self._waiting if key not in self._busy), None)
        if key is not None:
            del self._waiting[key]
            self._busy.add(key)
        return key

    def _retry(self, key: str, error: Exception) -> None:
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        extra = {"event": "reconcile.failed", "key": key, "reason": str(error), "tries": tries}
        log.warning("reconciling failed and is retried", extra=extra, exc_info=error if tries == 3 else None)
        self._delay(key, BACKOFF.pause(tries))

    def _delay(self, key: str, pause: float) -> None:
        self._delayed[key] = asyncio.get_running_loop().call_later(pause, self.add, key)
