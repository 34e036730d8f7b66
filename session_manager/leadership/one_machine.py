"""One machine at a time: where pods are processes, only front doors beside them reach them.

::

    starting → waiting → held → let_go
          └───────────────↑ └→ lost

Every front door of the machine claims the place again and again. Another machine's wait: they take it at once when it
is let go, and otherwise when nobody has claimed it for a whole period, since a Redis that came back empty is no sign
that the other one has gone. ``lost``: another machine has had it meanwhile; there is no way back for this process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from session_manager.activity.protocol import Machines, Seat
from session_manager.domain.errors import AnotherMachine, StartupFailure, Unavailable

log = logging.getLogger(__name__)

LOOKS = 5  # in a period
STAYS = 6  # periods until it yields: machines that are started again and again would take turns


class MachineState(StrEnum):
    STARTING = "starting"
    WAITING = "waiting"
    HELD = "held"
    LOST = "lost"
    LET_GO = "let_go"


_WORDS = {
    MachineState.STARTING: ("it is not known yet which machine runs the pods", 1),
    MachineState.WAITING: ("another machine runs the pods; this one serves once that one has stopped", 2),
    MachineState.LOST: ("another machine has taken over the pods", 1),
    MachineState.LET_GO: ("the server stops; another machine may take over the pods", 1),
}


def monotonic() -> float:
    """Seconds, on a clock that goes on while the machine is suspended, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Identity(Protocol):
    """Of a machine, shared by its front doors."""

    def open(self) -> str:
        """The id. StartupFailure: it cannot be kept."""
        ...

    def alone(self) -> bool:
        """Close it. Whether no other front door of this machine goes on."""
        ...


class OneMachine:
    """``period`` in seconds: how long a claim is good for. ``yields``: whether it leaves when another machine waits."""

    def __init__(
        self,
        machines: Machines,
        identity: Identity,
        period: float,
        *,
        yields: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._machines = machines
        self._identity = identity
        self._period = period
        self._yields = yields
        self._clock = clock
        self._id = ""
        self._other = ""
        self._away = 0  # looks since somebody was seen there
        self._since = self._until = 0.0
        self._held, self._over = asyncio.Event(), asyncio.Event()
        self._claiming: asyncio.Task[None] | None = None
        self.state = MachineState.STARTING

    @property
    def sure(self) -> bool:
        """Whether no other machine can have it, now."""
        return self.state is MachineState.HELD and self._clock() < self._until

    @property
    def lacks(self) -> str | None:
        """Why nothing is served, in words."""
        return None if self.state is MachineState.HELD else _WORDS[self.state][0]

    def open(self) -> None:
        """StartupFailure: who this machine is cannot be kept."""
        self._id = self._identity.open()

    def check(self) -> None:
        """AnotherMachine: requests are for another machine."""
        if self.state in (MachineState.WAITING, MachineState.LOST):
            raise AnotherMachine(*_WORDS[self.state])

    async def confirm(self) -> None:
        """AnotherMachine: this one decides nothing. Asks again when it was confirmed too long ago to be sure."""
        if self.sure:
            return
        if self.state in (MachineState.STARTING, MachineState.HELD):
            await self._look()
        if self.state is not MachineState.HELD:
            raise AnotherMachine(*_WORDS[self.state])

    async def begin(self) -> None:
        """Claim it, once now and then for as long as this process runs."""
        with suppress(Unavailable):
            await self._look()
        self._claiming = asyncio.create_task(self._claim(), name="one machine")

    async def until_held(self) -> None:
        await self._held.wait()

    async def until_over(self) -> None:
        """Until another machine asks for it and is to get it. StartupFailure: one has taken it."""
        await self._over.wait()
        if self.state is MachineState.LOST:
            raise StartupFailure(
                "Another machine has taken over the pods while this one was stopped or could not reach Redis"
            )

    async def leave(self) -> None:
        """The pods are gone. Another machine may begin at once, unless another front door of this one goes on."""
        claiming, self._claiming = self._claiming, None
        alone, held = self._identity.alone(), self.state is MachineState.HELD
        if claiming is None:
            return
        claiming.cancel()
        await asyncio.wait([claiming])
        if self.state is not MachineState.LOST:
            self.state = MachineState.LET_GO
        if alone:  # also of one that still waits: the last look may have got it
            await self._let_go(held)

    async def _let_go(self, held: bool) -> None:
        with suppress(Unavailable):
            await self._machines.let_go(self._id)
            if held:
                log.info("another machine may run pods", extra={"event": "machine.let_go", "machine": self._id})

    async def _claim(self) -> None:
        while self.state is not MachineState.LOST:
            await asyncio.sleep(self._period / LOOKS)
            try:
                await self._look()
            except Unavailable:
                self._away = 0  # what happened meanwhile nobody has seen

    async def _look(self) -> None:
        sent = self._clock()
        follows = not self._other or self._away >= LOOKS
        seat, other = await self._machines.hold(self._id, believes=self.state is MachineState.HELD, follows=follows)
        if self.state in (MachineState.LOST, MachineState.LET_GO):
            return
        if seat is Seat.HELD:
            self._until = sent + self._period
            self._hold()
            self._hear(other)
        elif seat is Seat.LOST:
            self._lose(other)
        else:
            self._wait(seat, other)

    def _hold(self) -> None:
        if self.state is not MachineState.HELD:
            self.state = MachineState.HELD
            self._since = self._clock()
            self._held.set()
            log.info("the pods of this machine count", extra={"event": "machine.held", "machine": self._id})

    def _hear(self, asked: str) -> None:
        stayed = self._clock() - self._since >= STAYS * self._period
        if asked and self._yields and stayed and not self._over.is_set():
            self._over.set()
            log.info("another machine waits, and gets the pods", extra={"event": "machine.asked", "by": asked})

    def _lose(self, other: str) -> None:
        self.state = MachineState.LOST
        self._over.set()
        extra = {"event": "machine.lost", "machine": self._id, "holder": other}
        log.critical("another machine has taken over the pods", extra=extra)

    def _wait(self, seat: Seat, other: str) -> None:
        self.state = MachineState.WAITING
        self._away = self._away + 1 if seat is Seat.AWAY else 0
        if other and other != self._other:
            self._other = other
            extra = {"event": "machine.waiting", "machine": self._id, "holder": other}
            log.warning("another machine runs the pods; this one waits until it has stopped", extra=extra)
