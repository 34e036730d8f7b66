"""Every call from a process to the outside passes its gate, before and after: here it crashes, stalls or fails.

The calls of a crashed process never return and have no further effects. Changes in its own memory stay invisible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from session_manager.domain.errors import ActivityUnavailable, StoreUnavailable, Unavailable


class Fault(StrEnum):
    CRASH = "crash"  # the process ends here
    STALL = "stall"  # the process is suspended for a while, and then continues as if nothing had happened
    REFUSE = "refuse"  # this one call fails; "after" a call of Redis: it ran, and its reply is lost


@dataclass(slots=True)
class Trap:
    """A fault at the ``countdown``-th passage from now (0 is the next) whose name contains ``at``."""

    fault: Fault
    countdown: int = 0
    at: str = ""
    seconds: float = 0.0


class Gate:
    """The gate of one life of a process. Passages are named like ``before redis.take`` or ``after store.record``."""

    def __init__(self, name: str, random: Random, on_crash: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.dead = False
        self.traps: list[Trap] = []
        self.stalled_until = 0.0
        self._random = random
        self._on_crash = on_crash

    def set_trap(self, trap: Trap) -> None:
        self.traps.append(trap)

    def crash(self) -> None:
        if not self.dead:
            self.dead = True
            self._on_crash()

    def stall(self, seconds: float) -> None:
        self.stalled_until = max(self.stalled_until, asyncio.get_running_loop().time() + seconds)

    def latency(self) -> float:
        """Return the seconds to a server: mostly few, sometimes enough to be overtaken."""
        return self._random.choice((0.0002, 0.0003, 0.0005, 0.001, 0.001, 0.002, 0.02))

    async def way_back(self) -> None:
        """Wait while the reply travels; more often than not it arrives at once."""
        if self._random.random() < 0.4:
            await asyncio.sleep(self.latency())
        await self.alive()

    async def before(self, call: str) -> None:
        await self._pass(f"before {call}")

    async def after(self, call: str) -> None:
        await self._pass(f"after {call}")

    async def _pass(self, passage: str) -> None:
        await self.alive()
        if self.traps:
            self._spring(passage)
            await self.alive()

    async def alive(self) -> None:
        """Continue at once, later, or never."""
        if self.stalled_until:
            await self._stand_still()
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def _stand_still(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.dead and self.stalled_until > loop.time():
            await asyncio.sleep(self.stalled_until - loop.time())

    def _spring(self, passage: str) -> None:
        for trap in [each for each in self.traps if each.at in passage]:
            if trap.countdown > 0:
                trap.countdown -= 1
                continue
            if trap.fault is Fault.REFUSE and not _may_refuse(passage):
                continue
            self.traps.remove(trap)
            self._do(trap, passage)

    def _do(self, trap: Trap, passage: str) -> None:
        if trap.fault is Fault.CRASH:
            self.crash()
        elif trap.fault is Fault.STALL:
            self.stall(trap.seconds)
        else:
            raise _refusal(passage)


def _may_refuse(passage: str) -> bool:
    """Raise no failure after a commit whose answer was lost: the store promises that a failure wrote nothing."""
    return passage.startswith("before store.") or "redis." in passage


def _refusal(passage: str) -> Unavailable:
    return StoreUnavailable() if "store." in passage else ActivityUnavailable()
