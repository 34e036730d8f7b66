"""Running until somebody says stop: the first signal asks, the second insists."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvloop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Stop:
    """``asked``: finish what runs, then end. ``at_once``: do not wait for it."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


def run_until_signalled(work: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` on uvloop, with signals turned into a ``Stop``."""

    async def main() -> None:
        stop = Stop()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop.signalled)
        await work(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def first(*works: Awaitable[Any]) -> None:
    """Until one of them is done; the others are cancelled. What it raised is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unless(event: asyncio.Event, work: Awaitable[Any]) -> None:
    """Do the work, unless the event comes first; then cancel it."""
    await first(event.wait(), work)
