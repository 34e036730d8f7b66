"""The only writer of a process: a thread that commits all waiting calls at once.

The order matters. The thread first takes the write lock, and only then the waiting calls. So a call is not "started"
while another process holds the lock: a timer on the event loop rejects each call after its own patience, and a rejected
call never runs later. A call that was taken runs to its end, and its real outcome is reported. The results of a batch
return to the event loop in one step.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from session_manager.domain.errors import StoreCannotWrite, StoreUnavailable
from session_manager.domain.times import Micros
from session_manager.store.sqlite.connection import Connection, is_busy, is_own_fault, translated, unavailable
from session_manager.store.transactions.base import Transaction

Call: TypeAlias = tuple[Callable[..., Transaction[Any]], tuple[Any, ...], dict[str, Any]]
"""A transaction to run. Called with the time and these arguments, the function returns the generator."""

Result: TypeAlias = tuple[Any, Exception | None]
"""The result of one transaction, or its error."""

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 256  # calls in one commit; limits the time that the first of them waits for the last


def run_batch(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Run the calls inside the transaction that was begun on ``connection``, and commit, with one fsync for all.

    A call that fails does so alone. Never raises: if the database itself fails, nothing is written and all calls end
    with StoreUnavailable.
    """
    try:
        results = _run_all(connection, calls)
        connection.raw.execute("COMMIT")
    except Exception as error:
        failure = unavailable(error)
        if not isinstance(failure, StoreCannotWrite):  # the store reports a full disk once
            logger.exception("a commit failed", extra={"event": "store.commit_failed"})
        try:
            connection.rollback()
        except sqlite3.Error:
            # Then the next BEGIN fails, and so do its callers.
            logger.exception("a rollback failed", extra={"event": "store.rollback_failed"})
        return [(None, failure)] * len(calls)
    return results


def _run_all(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Run all calls without savepoints, and again with them if a call fails: they cost a tenth of the work."""
    try:
        return [(_run(connection, call), None) for call in calls]
    except Exception as error:
        _raise_if_fatal(error)
        connection.rollback()
        connection.begin()
        if len(calls) == 1:
            return [(None, translated(error))]
    return [_run_guarded(connection, call) for call in calls]


def _run_guarded(connection: Connection, call: Call) -> Result:
    """Run one of several calls so that it can be undone alone."""
    connection.raw.execute("SAVEPOINT op")
    try:
        value = _run(connection, call)
    except Exception as error:
        _raise_if_fatal(error)
        connection.raw.execute("ROLLBACK TO op")
        connection.raw.execute("RELEASE op")
        return None, translated(error)
    connection.raw.execute("RELEASE op")
    return value, None


def _run(connection: Connection, call: Call) -> Any:
    transaction, args, kwargs = call
    return connection.run(transaction(Micros(connection.clock()), *args, **kwargs))


def _raise_if_fatal(error: Exception) -> None:
    if isinstance(error, sqlite3.Error) and not is_own_fault(error):
        raise error


@dataclass(slots=True, eq=False)
class _Waiting:
    """A waiting call with the future of its caller. ``since`` is on the monotonic clock."""

    call: Call
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)


class ThreadWriter:
    """A writer on its own thread, which owns ``connection``. ``patience`` is in seconds."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self._queue: deque[_Waiting] = deque()
        self._taking = threading.Lock()
        self._asleep = threading.Lock()  # a signal cheaper than an Event; released to wake the thread
        self._asleep.acquire()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish all submitted calls, and close the file."""
        self._closing = True
        self._signal()
        await asyncio.to_thread(self._thread.join)
        if self._timer is not None:
            self._timer.cancel()

    # On the event loop

    def submit(self, transaction: Callable[..., Transaction[T]], args: Any, kwargs: Any) -> Awaitable[T]:
        """Run and commit a transaction. Raises StoreUnavailable if it could not start in time; then it never runs."""
        if self._closing:
            raise StoreUnavailable
        waiting = _Waiting((transaction, args, kwargs), self._loop.create_future())
        self._queue.append(waiting)
        self._signal()
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._reject_late)
        return waiting.future

    def _signal(self) -> None:
        """Wake the thread, or keep it awake. Only the event loop's thread may call this."""
        if self._asleep.locked():
            self._asleep.release()

    def _reject_late(self) -> None:
        """Reject calls that have waited too long, and set the timer for the next one."""
        self._timer = None
        late = time.monotonic() - self._patience
        with self._taking:
            rejected = []
            while self._queue and self._queue[0].since <= late:
                rejected.append(self._queue.popleft())
            next_since = self._queue[0].since if self._queue else None
        self._deliver(rejected, [(None, StoreUnavailable())] * len(rejected))
        if next_since is not None:
            self._timer = self._loop.call_later(max(0.0, next_since - late), self._reject_late)

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
                self._commit_what_waits()
        finally:
            self._connection.close()

    def _wait(self) -> bool:
        """Sleep until a call waits. Return False if none waits and the writer is closing."""
        while not self._queue:
            if self._closing:
                return False
            self._asleep.acquire()
        return True

    def _commit_what_waits(self) -> None:
        try:
            self._connection.begin()
        except sqlite3.Error as error:
            self._begin_failed(error)
            return
        batch = self._take(MAX_BATCH)
        if batch:
            self._hand_back(batch, run_batch(self._connection, [waiting.call for waiting in batch]))
        else:
            self._connection.rollback()

    def _begin_failed(self, error: sqlite3.Error) -> None:
        """Keep the calls waiting if the database is locked. After any other error, reject them: waiting is useless."""
        failure = unavailable(error)
        if not isinstance(failure, StoreCannotWrite):
            extra = {"event": "store.begin_failed", "reason": str(error)}
            logger.error("the database could not be locked for writing", extra=extra)
        if self._closing or not is_busy(error):
            batch = self._take(len(self._queue))
            self._hand_back(batch, [(None, failure)] * len(batch))

    def _take(self, limit: int) -> list[_Waiting]:
        """Take at most ``limit`` calls, oldest first. Calls whose caller has given up are dropped and never run."""
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
            logger.warning("the event loop ended before its writes", extra={"event": "store.loop_closed"})
