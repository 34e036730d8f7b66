"""An event loop in virtual time: the clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

EPOCH = 1_700_000_000  # Unix time at the start of a world


class _Leap(selectors.SelectSelector):
    """Lets time pass instead of waiting for sockets, which do not exist here."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the world is stuck: nothing is ready and no timer is set")
        if timeout > 0:
            self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` is the seconds since the start of the world; ``unix_micros()`` is the same instant for databases."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now

    def unix_micros(self) -> int:
        return EPOCH * 1_000_000 + round(self._leap.now * 1_000_000)

    def run_for(self, seconds: float) -> None:
        """Run the world for some seconds; with 0, only the tasks that are ready at this instant."""
        self.call_later(seconds, self.stop)
        self.run_forever()

    def run_until(self, condition: Callable[[], bool], within: float, look_every: float = 0.01) -> bool:
        """Run the world until ``condition`` holds. Returns False if it did not in time."""
        deadline = self.time() + within
        while not condition():
            if self.time() >= deadline:
                return False
            self.run_for(look_every)
        return True
