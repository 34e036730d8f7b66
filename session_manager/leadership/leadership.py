"""One leader among several processes: the state machine that one writer and one machine with pods share.

::

    STARTING ─→ WAITING ─→ PREPARING ─→ LEADING ⇄ LAPSED
                                └───────────┴→ LOST, RELEASED

A candidate claims the lease regularly, and so does the leader, whose claims renew it. ``LAPSED``: the last renewal is
too old, so another process may hold the lease by now. If none does, the next renewal makes this process the leader
again. ``LOST``: another process has held the lease since; this process has to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from session_manager.aio.ids import monotonic
from session_manager.aio.tasks import cancel, wait_for_either
from session_manager.domain.errors import AnotherMachine, NotTheWriter, StartupFailure, StorageError, Unavailable
from session_manager.domain.lease import Lease, LeaseOutcome

log = logging.getLogger(__name__)


class State(StrEnum):
    STARTING = "starting"  # the lease has not answered yet
    WAITING = "waiting"
    PREPARING = "preparing"  # the lease is held, but requests are not served yet
    LEADING = "leading"
    LAPSED = "lapsed"
    LOST = "lost"
    RELEASED = "released"


_HOLDS = (State.PREPARING, State.LEADING)
_ENDED = (State.LOST, State.RELEASED)
_LEVELS = {State.WAITING: logging.WARNING, State.LOST: logging.CRITICAL}
_UNREACHABLE = (Unavailable, StorageError)


@dataclass(frozen=True, slots=True)
class PublicState:
    """The outside of a state: its name in /health, the requests it serves, and the 503 for all others.

    ``serves``: all requests; ``reads``: requests that only read. ``retry_after`` in seconds.
    """

    name: str
    detail: str = ""
    retry_after: int = 1
    serves: bool = False
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A job that one process at a time does. ``prepares``: there is work between taking the lease and serving requests.

    ``events`` and ``yields`` are keys and messages of log records: for entering a state (a state without one is not
    logged), and for handing over to a process that asks. ``lost`` is the message of the StartupFailure.
    """

    name: str
    error: Callable[[str, int], Unavailable]
    public: Mapping[State, PublicState]
    events: Mapping[State, tuple[str, str]]
    yields: tuple[str, str]
    lost: str
    prepares: bool = False


_WAITING = PublicState("waiting", "another instance writes; this one serves requests once that one has stopped", 2)

ONE_WRITER = Role(
    name="writer",
    error=NotTheWriter,
    prepares=True,
    public={
        State.STARTING: _WAITING,
        State.WAITING: _WAITING,
        State.PREPARING: PublicState("opening", "the newest data is being fetched", 2),
        State.LEADING: PublicState("writing", serves=True),
        State.LAPSED: PublicState(
            "lapsed", "the bucket with the lease cannot be reached, so nothing is written; reading works", 5, reads=True
        ),
        State.LOST: PublicState("lost", "another instance has taken over"),
        State.RELEASED: PublicState("released", "the server is stopping; another instance takes over"),
    },
    events={
        State.PREPARING: ("writer.acquired", "this instance acquired the lease"),
        State.LOST: ("writer.lost", "another instance has taken over"),
        State.RELEASED: ("writer.released", "the lease was released"),
    },
    yields=("writer.asked", "another instance asked for the lease and gets it"),
    lost=(
        "Another instance has taken over while this one was stopped or could not reach the bucket; what it had not "
        "stored by then is in its database file only, which is put aside at the next start"
    ),
)
"""The front door that may write to a SQLite database with a bucket."""

ONE_MACHINE = Role(
    name="machine",
    error=AnotherMachine,
    public={
        State.STARTING: PublicState("starting", "Redis has not answered yet which machine runs the pods", reads=True),
        State.WAITING: PublicState(
            "waiting", "another machine runs the pods; this one serves once that one has stopped", 2
        ),
        State.LEADING: PublicState("held", serves=True),
        # Redis is asked again before anything is decided, and its absence has an error of its own.
        State.LAPSED: PublicState("held", serves=True),
        State.LOST: PublicState("lost", "another machine has taken over the pods"),
        State.RELEASED: PublicState("let_go", "the server is stopping; another machine may run the pods", reads=True),
    },
    events={
        State.WAITING: ("machine.waiting", "another machine runs the pods; this one waits until it has stopped"),
        State.LEADING: ("machine.held", "this machine now runs the pods"),
        State.LOST: ("machine.lost", "another machine has taken over the pods"),
        State.RELEASED: ("machine.let_go", "another machine may run the pods now"),
    },
    yields=("machine.asked", "another machine asked for the pods and gets them"),
    lost="Another machine has taken over the pods while this one was stopped or could not reach Redis",
)
"""The machine that runs the pods, where pods are processes that only front doors beside them can reach."""


class Leadership:
    """``yields_after``: seconds of leading after which another process that asks gets the lease; None for never."""

    def __init__(
        self, lease: Lease, role: Role, *, yields_after: float | None = None, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lease = lease
        self._role = role
        self._yields_after = float("inf") if yields_after is None else yields_after
        self._clock = clock
        self._phase = State.STARTING
        self._valid_until = self._leading_since = float("-inf")
        self._other = ""
        self._held, self._over = asyncio.Event(), asyncio.Event()
        self._claiming: asyncio.Task[None] | None = None

    @property
    def sure(self) -> bool:
        """Return True while no other process can hold the lease."""
        return self._phase in _HOLDS and self._clock() < self._valid_until

    @property
    def state(self) -> State:
        return State.LAPSED if self._phase is State.LEADING and not self.sure else self._phase

    @property
    def public(self) -> PublicState:
        return self._role.public[self.state]

    @property
    def lacks(self) -> str | None:
        """The reason why not all requests are served, or None."""
        status = self.public
        return None if status.serves else status.detail

    def check(self, *, reading: bool = False) -> None:
        """Raise the error of the role if a request cannot be served in this state. ``reading``: it changes nothing."""
        status = self.public
        if not (status.serves or (reading and status.reads)):
            raise self._error(self.state)

    def fence(self) -> None:
        """Raise the error of the role if another process may hold the lease by now."""
        if not self.sure:
            raise self._error(State.LAPSED if self._phase in _HOLDS else self._phase)

    async def confirm(self) -> None:
        """Like ``fence``, but claim the lease again if the last claim is too old.

        Raises Unavailable or StorageError if the lease cannot be reached.
        """
        if self.sure:
            return
        if self._phase is State.STARTING or self._phase in _HOLDS:
            await self.claim()
        if self._phase not in _HOLDS:
            raise self._error(self._phase)

    def _error(self, state: State) -> Unavailable:
        status = self._role.public[state]
        return self._role.error(status.detail, status.retry_after)

    async def begin(self) -> None:
        """Claim the lease now, and regularly from then on. Raises StartupFailure if the lease rejects this process."""
        with suppress(*_UNREACHABLE):
            await self.claim()
        self._claiming = asyncio.create_task(self._claim_regularly(), name=f"lease of one {self._role.name}")

    async def until_held(self) -> None:
        """Wait for the lease, after ``begin``. Raises StartupFailure if the lease rejects this process."""
        if self._claiming is not None:
            await wait_for_either(self._claiming, self._held.wait())
            if not self._held.is_set():
                self._claiming.result()

    def ready(self) -> None:
        """End the preparation: requests are served from now on."""
        if self._phase is State.PREPARING:
            self._lead()

    async def until_over(self) -> None:
        """Wait until the lease is to be handed to another process that asks. Raises StartupFailure if it was lost."""
        await self._over.wait()
        self.fail_if_lost()

    def fail_if_lost(self) -> None:
        if self._phase is State.LOST:
            raise StartupFailure(self._role.lost)

    async def release(self) -> bool:
        """Stop leading, and let another process take over at once. Return False if the lease was not released.

        A process that still waits releases as well: its last claim may have succeeded.
        """
        await self._stop_claiming()
        if self._phase in _ENDED:
            return False
        led = self._phase in _HOLDS
        self._phase = State.RELEASED
        released = await self._lease.release()
        if released and led:
            self._report(State.RELEASED)
        return released

    async def close(self) -> None:
        """Stop claiming. A lease that was not released expires."""
        await self._stop_claiming()
        await self._lease.close()

    async def _stop_claiming(self) -> None:
        if self._claiming is not None:
            await cancel(self._claiming)

    async def _claim_regularly(self) -> None:
        while self._phase is not State.LOST:
            await asyncio.sleep(self._lease.pause)
            with suppress(*_UNREACHABLE):
                await self.claim()

    async def claim(self) -> None:
        """Claim the lease once and act on the answer. Raises what the lease raises."""
        sent = self._clock()
        answer = await self._lease.claim()
        if self._phase in _ENDED:
            return
        if answer.outcome is LeaseOutcome.HELD:
            self._hold(sent, answer.other)
        elif answer.outcome is LeaseOutcome.LOST:
            self._phase = State.LOST
            self._over.set()
            self._report(State.LOST, holder=answer.other)
        else:
            self._phase = State.WAITING
            if answer.other and answer.other != self._other:
                self._other = answer.other
                self._report(State.WAITING, holder=answer.other)

    def _hold(self, sent: float, asking: str) -> None:
        self._valid_until = sent + self._lease.validity
        if self._phase not in _HOLDS:
            if self._role.prepares:
                self._phase = State.PREPARING
            else:
                self._lead()
            self._held.set()
            self._report(self._phase)
        if asking and self._may_yield and not self._over.is_set():
            self._over.set()
            self._log(logging.INFO, *self._role.yields, by=asking)

    @property
    def _may_yield(self) -> bool:
        """Not at once: processes that are always restarted would take turns."""
        return self._phase is State.LEADING and self._clock() - self._leading_since >= self._yields_after

    def _lead(self) -> None:
        self._phase = State.LEADING
        self._leading_since = self._clock()

    def _report(self, state: State, **fields: str) -> None:
        if state in self._role.events:
            self._log(_LEVELS.get(state, logging.INFO), *self._role.events[state], **fields)

    def _log(self, level: int, event: str, message: str, **fields: str) -> None:
        log.log(level, message, extra={"event": event, **self._lease.facts, **fields})


def admission(writer: Leadership | None, machine: Leadership | None) -> Callable[[str], Awaitable[None]]:
    """Return a check of requests by their HTTP method. It raises the error of the role that keeps one from service."""

    async def admit(method: str) -> None:
        reading = method in ("GET", "HEAD", "OPTIONS")
        if writer is not None:
            writer.check(reading=reading)
        if machine is not None:
            machine.check(reading=True)
            if not reading:
                await machine.confirm()

    return admit
