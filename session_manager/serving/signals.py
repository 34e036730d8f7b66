"""Run until a signal: the first one asks the server to stop, the second makes it stop at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvloop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Stop:
    """``asked``: finish the running turns, then end. ``at_once``: do not wait for them."""

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
