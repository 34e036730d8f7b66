"""Tasks: wait for the first of several, for an event, for a while; run beside everything else; cancel and wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


async def first_of(*works: Awaitable[Any]) -> None:
    """Wait until one of them has ended, cancel the others, and raise what the first one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel(*tasks)


async def unless(event: asyncio.Event, work: Awaitable[Any]) -> None:
    """Do the work, but cancel it when the event is set first."""
    await first_of(event.wait(), work)


async def wait_for_either(task: asyncio.Future[Any], work: Awaitable[Any]) -> None:
    """Wait until ``task`` has ended or ``work`` is done, and raise what ``work`` raised.

    ``work`` is cancelled at the end. ``task`` never is, and its result and its error stay with it.
    """
    working = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait((task, working), return_when=asyncio.FIRST_COMPLETED)
        if working in done:
            working.result()
    finally:
        await cancel(working)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event; False if it was not set in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel them and wait until all have ended, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def end_within(seconds: float, tasks: Collection[asyncio.Future[Any]]) -> None:
    """Give the tasks this time to end by themselves, then cancel them."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=seconds)
        await cancel(*late)


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run long, blocking work in a thread of its own. Unlike asyncio's threads it never keeps the process from ending.

    The work goes on when the caller is cancelled, and its result is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def hand_over(set_: Callable[[T], None] | Callable[[BaseException], None], value: object) -> None:
        if not future.done():
            set_(value)  # type: ignore[arg-type]

    def run() -> None:
        try:
            done = partial(hand_over, future.set_result, work())
        except BaseException as error:
            done = partial(hand_over, future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            loop.call_soon_threadsafe(done)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


def log_failure(error: BaseException, task: str) -> None:
    """Log what ended a background task."""
    log.error("a background task failed", exc_info=error, extra={"event": "task.failed", "task": task})


class Background:
    """Runs tasks beside everything else, and reports each that raises to ``on_failure`` as (error, task name)."""

    def __init__(self, on_failure: Callable[[BaseException, str], None] = log_failure) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self.add(asyncio.create_task(work, name=name))

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error, task.get_name())

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        await cancel(*self._tasks)
