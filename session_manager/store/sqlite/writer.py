"""The one writer of a process: a thread that commits everything that waits at once.

The order of things matters here. The thread first takes the write lock and only then the calls that wait, so a lock
held by another process makes nobody's call "started": each call is refused when its own patience is over, by a timer on
the event loop, and one that was refused can never run later. What was taken is run to its end and its real outcome
reported. Results of a batch cross back to the event loop in one step.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from session_manager.domain.errors import StoreUnavailable
from session_manager.store.sqlite.batch import Call, Result, run_batch
from session_manager.store.sqlite.connection import Connection, is_busy
from session_manager.store.transactions.base import Transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 256  # calls in one commit: bounds how long the first of them waits for the last


class Writer(Protocol):
    """Runs transactions that write, one after the other."""

    def submit(self, transaction: Callable[..., Transaction[T]], args: Any, kwargs: Any) -> Awaitable[T]:
        """Run and commit. StoreUnavailable when it could not be started in time; then it never runs."""
        ...

    async def close(self) -> None:
        """Finish what was submitted, and let go of the file."""
        ...


class _Waiting:
    """One call and who waits for it. ``since`` is on the monotonic clock."""

    __slots__ = ("call", "future", "since")

    def __init__(self, call: Call, future: asyncio.Future[Any]) -> None:
        self.call = call
        self.future = future
        self.since = time.monotonic()


class ThreadWriter:
    """Owns ``connection`` from here on. ``patience`` in seconds."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._queue: deque[_Waiting] = deque()
        self._taking = threading.Lock()
        self._asleep = threading.Lock()  # as a signal that costs less than an Event: released to wake the thread
        self._asleep.acquire()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        self._closing = True
        self._signal()
        await asyncio.to_thread(self._thread.join)
        if self._timer is not None:
            self._timer.cancel()

    # On the event loop

    def submit(self, transaction: Callable[..., Transaction[T]], args: Any, kwargs: Any) -> Awaitable[T]:
        if self._closing:
            raise StoreUnavailable
        waiting = _Waiting((transaction, args, kwargs), self._loop.create_future())
        self._queue.append(waiting)
        self._signal()
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._refuse_late)
        return waiting.future

    def _signal(self) -> None:
        """Wake the thread, or keep it from going to sleep. Nobody but the event loop's thread calls it."""
        if self._asleep.locked():
            self._asleep.release()

    def _refuse_late(self) -> None:
        """Refuse what has waited for too long, and look again when the next may have."""
        self._timer = None
        late = time.monotonic() - self._patience
        with self._taking:
            refused = []
            while self._queue and self._queue[0].since <= late:
                refused.append(self._queue.popleft())
            next_since = self._queue[0].since if self._queue else None
        self._refuse(refused)
        if next_since is not None:
            self._timer = self._loop.call_later(max(0.0, next_since - late), self._refuse_late)

    @staticmethod
    def _refuse(refused: list[_Waiting]) -> None:
        for waiting in refused:
            if not waiting.future.done():
                waiting.future.set_exception(StoreUnavailable())

    @staticmethod
    def _deliver(batch: list[_Waiting], results: list[Result]) -> None:
        for waiting, (value, error) in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if error is None:
                waiting.future.set_result(value)
            else:
                waiting.future.set_exception(error)

    # On the writer's thread

    def _work(self) -> None:
        try:
            while self._wait():
                self._commit_what_waits(self._connection)
        finally:
            self._connection.close()

    def _wait(self) -> bool:
        """Sleep until something waits; false when the writer is closing and nothing does."""
        while not self._queue:
            if self._closing:
                return False
            self._asleep.acquire()
        return True

    def _commit_what_waits(self, connection: Connection) -> None:
        try:
            connection.begin()
        except sqlite3.Error as error:
            self._begin_failed(error)
            return
        batch = self._take(MAX_BATCH)
        if batch:
            self._hand_back(batch, run_batch(connection, [waiting.call for waiting in batch]))
        else:
            connection.rollback()

    def _begin_failed(self, error: sqlite3.Error) -> None:
        """Locked: those who still have patience go on waiting. Anything else will not get better by waiting."""
        logger.error("The database cannot be written", extra={"event": "store.begin_failed", "reason": str(error)})
        if self._closing or not is_busy(error):
            batch = self._take(len(self._queue))
            self._hand_back(batch, [(None, StoreUnavailable())] * len(batch))

    def _take(self, limit: int) -> list[_Waiting]:
        """At most ``limit`` calls, oldest first. Whoever hung up is left out: that call never runs."""
        batch: list[_Waiting] = []
        with self._taking:
            while self._queue and len(batch) < limit:
                waiting = self._queue.popleft()
                if not waiting.future.cancelled():
                    batch.append(waiting)
        return batch

    def _hand_back(self, batch: list[_Waiting], results: list[Result]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, batch, results)
        except RuntimeError:
            logger.warning("The event loop ended before its writes did", extra={"event": "store.loop_closed"})
