"""The port to the hot facts: inbox, turn lease, awake deadlines, pod addresses, live feed.

Everything here may be lost and is rebuilt from SQL and from the runtime.  Every method may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import Address


@dataclass(frozen=True, slots=True)
class Claim:
    """The turn of a session, held under a lease.

    ``fresh``: nobody was ever given this message. ``replace``: the pod may have seen it, or nobody knows.
    """

    session: str
    message_id: str
    token: str
    fresh: bool
    replace: bool
    address: Address


@dataclass(frozen=True, slots=True)
class Queued:
    """``position`` 1 is the next to run (or the one that runs)."""

    position: int
    awake: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """An earlier message of the session is missing in the inbox; nothing was added."""


class NoClaim(StrEnum):
    """Why ``claim`` gave nothing. UNSETTLED: Redis has just come back, and another front door may hold the turn."""

    EMPTY = "EMPTY"
    BUSY = "BUSY"
    ASLEEP = "ASLEEP"
    UNSETTLED = "UNSETTLED"


@dataclass(frozen=True, slots=True)
class Desire:
    """What the scaler needs to know. ``published``: uid of the pod whose address counts; ``pod``: in any generation.

    ``ended``: how it ended, ``expired`` or ``deleted``, until what the runtime keeps of it is forgotten.
    ``pushed``: the list that KEDA watches has an element, whoever put it there.
    """

    deleted: bool
    class_name: str
    published: str
    retire: str
    failed_tries: int
    wanted: bool
    due: bool
    pod: str
    ended: str = ""
    pushed: bool = False


@dataclass(frozen=True, slots=True)
class Wakefulness:
    """A session in ``awake``: does a pod answer, and has its deadline passed?"""

    address: bool
    due: bool


class Fenced(StrEnum):
    """The answer of ``fence``. EARLY: the session's deadline has not passed. UNSETTLED: as of NoClaim."""

    PASSED = "PASSED"
    ASLEEP = "ASLEEP"
    BUSY = "BUSY"
    EARLY = "EARLY"
    UNSETTLED = "UNSETTLED"


FeedNote = dict[str, Any]
NoteListener = Callable[[FeedNote], None]


class SessionGone(Exception):
    """Redis has the mark of a deleted session. The caller turns it into NotFound."""


class TurnActivity(Protocol):
    """What the path of a message needs. ActivityUnavailable when Redis is away, SessionGone after a delete."""

    async def take(
        self, session: str, message_id: str, seq: int, lowest_unfinished: int, session_class: SessionClass
    ) -> Claim | Queued | Gap:
        """Add an accepted message and claim it if it may run at once."""
        ...

    async def claim(self, session: str, session_class: SessionClass) -> Claim | NoClaim:
        """Claim the first message, or one of NoClaim; wakes the pod where one is needed."""
        ...

    async def add(self, session: str, messages: Iterable[tuple[str, int]], session_class: SessionClass) -> bool:
        """Add (message id, seq) from SQL, wake where needed; True when somebody holds the turn."""
        ...

    async def finish(
        self, claim: Claim, session_class: SessionClass, note: FeedNote | None, *, pod_spoiled: bool = False
    ) -> int:
        """The result is in SQL: remove, release, tell the feed; how many wait. ``pod_spoiled``: its pod must go."""
        ...

    async def abandon(self, claim: Claim, session_class: SessionClass, *, replace_pod: bool) -> None: ...
    async def remove(self, session: str, message_id: str, session_class: SessionClass) -> bool:
        """A message ended in SQL by other means; True when it was running."""
        ...

    def holds(self, claim: Claim) -> bool:
        """The lease cannot have run out yet, by the local clock."""
        ...

    def let_go(self, claim: Claim) -> None:
        """Renew the lease no more: where it was not released, it runs out."""
        ...

    def on_generation(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after another generation was adopted: Redis may have lost everything."""
        ...

    @property
    def generation(self) -> bytes: ...

    async def ping(self) -> None: ...
    async def inbox(self, session: str) -> list[str]: ...
    async def wake(self, session: str, session_class: SessionClass, keep_awake: float = 0.0) -> bool:
        """Want the pod, for ``keep_awake`` seconds at least; True when it answers already."""
        ...

    async def fence(self, session: str, session_class: SessionClass, *, force: bool = False) -> Fenced: ...
    async def sleep_when_idle(self, session: str) -> None: ...
    async def delete(self, session: str) -> None: ...
    async def expire(self, session: str) -> bool:
        """Forget an expired session; False when it is alive again."""
        ...

    async def ended(self, session: str) -> None:
        """It has expired in SQL: what the runtime keeps of it is to be forgotten."""
        ...

    async def hot(self, session: str) -> Hot: ...
    async def awake(self) -> dict[str, Wakefulness]:
        """Every session that is waking or awake."""
        ...

    async def next_ready(self) -> str | None:
        """Take one session that needs a look: its pod became ready, its start failed, or its inbox is stuck.

        It is given to somebody else after one lease, unless it was ``attended``.
        """
        ...

    async def attended(self, session: str) -> None:
        """What ``next_ready`` gave was looked at."""
        ...

    async def on_ready(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when something may be in ``ready``; calls may be lost."""
        ...

    async def on_gone(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the uid of a pod that is gone; calls may be lost."""
        ...

    async def notify(self, session: str, note: FeedNote) -> None:
        """Publish to whoever watches the session; nobody may be there."""
        ...

    def watch(self, session: str) -> AbstractAsyncContextManager[asyncio.Queue[FeedNote]]:
        """The live notes of a session, while the context is open. Notes may be lost."""
        ...


class Seat(StrEnum):
    """What became of a machine's claim that its pods count. ``AWAY``: nobody's do, for now."""

    HELD = "HELD"
    OTHER = "OTHER"
    AWAY = "AWAY"
    LOST = "LOST"


class Machines(Protocol):
    """Which machine's pods count, where those of others cannot be reached. ActivityUnavailable when Redis is away."""

    async def hold(self, machine: str, *, believes: bool, follows: bool) -> tuple[Seat, str]:
        """Claim it for a period.

        ``believes``: that this machine has it; LOST, if another one has had it since. ``follows``: it may take what
        another one neither let go nor claimed again in time. With HELD comes who asks for it, or nothing; else who has
        or had it.
        """
        ...

    async def let_go(self, machine: str) -> None:
        """If this machine has it: another one may begin at once."""
        ...


class ScalerActivity(Protocol):
    """What wakes and sleeps pods."""

    async def on_wake(self, listener: Callable[[str], None]) -> None: ...
    def on_generation(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after another generation was adopted: addresses have to be published again."""
        ...

    async def beat(self, *, deputy: bool = False) -> bool:
        """Somebody watches the pods: addresses count for the next heartbeat period.

        False, and nothing happened, where a ``deputy`` is not needed: somebody else does.
        """
        ...

    async def watched(self) -> bool:
        """Somebody watches the pods."""
        ...

    @property
    def generation(self) -> bytes: ...
    async def awake(self) -> dict[str, Wakefulness]: ...
    async def desire(self, session: str) -> Desire: ...
    async def unforgotten(self) -> list[str]:
        """The sessions that ended, and of which the runtime may keep something."""
        ...

    async def forgotten(self, session: str) -> None:
        """The runtime keeps nothing of the session that it should not."""
        ...

    async def publish(self, session: str, address: Address, session_class: SessionClass, *, old: bool) -> bool:
        """The pod answers; False when it is not wanted any more. ``old``: it was started in an earlier generation."""
        ...

    async def lost(self, session: str, uid: str) -> None:
        """The pod is gone; a session with nothing to do is not wanted any more."""
        ...

    async def fail(self, session: str, failure: Failure, retry_in: float) -> None: ...
    async def phase(self, session: str, words: str) -> None: ...
    async def fence(
        self, session: str, session_class: SessionClass, *, force: bool = False, suspend: bool = False
    ) -> Fenced:
        """``force`` skips the deadline; ``suspend`` also what waits in the inbox, which goes on waiting."""
        ...

    async def add(self, session: str, messages: Iterable[tuple[str, int]], session_class: SessionClass) -> bool:
        """As in TurnActivity; without messages the pod is merely wanted, unless its start has just failed."""
        ...
