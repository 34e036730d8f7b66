"""The ports to the hot facts: inbox, turn lease, awake deadlines, pod addresses, live feed.

Everything here may be lost, and is rebuilt from SQL and from the runtime.  Every method may run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodAddress


@dataclass(frozen=True, slots=True)
class Claim:
    """The turn of a session, held under a lease.

    ``fresh``: no pod was ever given this message. ``replace``: the pod at ``address`` may have seen it already.
    """

    session: str
    message_id: str
    token: str = field(repr=False)
    fresh: bool
    replace: bool
    address: PodAddress


@dataclass(frozen=True, slots=True)
class Queued:
    """``position`` 1: the message is the next to run, or runs. ``crowd``: as of Woken."""

    position: int
    awake: bool
    crowd: int = 0


@dataclass(frozen=True, slots=True)
class Woken:
    """``awake``: the pod answers already. ``crowd``: the user's awake pods, if one must go to sleep first, or 0."""

    awake: bool
    crowd: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """An earlier message of the session is missing in the inbox, so nothing was added."""


class NoClaim(StrEnum):
    """The reason for which ``claim`` gave nothing.

    UNSETTLED: Redis has just come back, and another front door may hold the turn.
    """

    EMPTY = "EMPTY"
    BUSY = "BUSY"
    ASLEEP = "ASLEEP"
    UNSETTLED = "UNSETTLED"


@dataclass(frozen=True, slots=True)
class Desire:
    """The facts of a session that the scaler needs.

    ``published``: uid of the pod whose address is valid; ``pod``: the same, in any generation. ``ended``: ``expired``
    or ``deleted``, until the runtime keeps nothing of the session. ``pushed``: the list that KEDA watches has an
    element, which an operator or another client may have added. ``user``: the session's, or "" if Redis does not know.
    ``trace``: the trace context of the request that woke it, or "".
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
    user: str = ""
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Wakefulness:
    """A session in ``awake``. ``address``: a pod answers. ``due``: its deadline has passed. ``user``: as of Desire."""

    address: bool
    due: bool
    user: str = ""


class Fenced(StrEnum):
    """The answer of ``fence``. EARLY: the session's deadline has not passed. UNSETTLED: as of NoClaim."""

    PASSED = "PASSED"
    ASLEEP = "ASLEEP"
    BUSY = "BUSY"
    EARLY = "EARLY"
    UNSETTLED = "UNSETTLED"


FeedNote = dict[str, Any]


class LiveNote(FeedNote):
    """A note as it was published: one object for all its watchers. ``encoded``: what they send of it, once it is."""

    encoded: bytes | None = None


class Allowance(Protocol):
    """The bytes that may wait for one watcher."""

    def take(self, size: int) -> bool:
        """Hold ``size`` more bytes, or return False if there is no room for them."""
        ...

    def free(self, size: int) -> None: ...


LAGGED: FeedNote = {"kind": "stream.lagged"}


class Lagging(Exception):
    """A watcher did not take its notes in time, and some are lost."""


START_FAILED = "session.failed"  # a note: the pod cannot start, and ``hot`` says why


class SessionGone(Exception):
    """Redis has the mark of a deleted session. The caller raises NotFound instead."""


class CommonActivity(Protocol):
    """The methods that both ports have."""

    @property
    def generation(self) -> bytes: ...

    def on_generation(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after another generation was adopted, as Redis may have lost everything."""
        ...

    async def awake(self) -> dict[str, Wakefulness]:
        """Return every session that is waking or awake, in the order of their deadlines."""
        ...

    async def add(
        self, session: str, messages: Iterable[tuple[str, int]], session_class: SessionClass, user: str = ""
    ) -> bool:
        """Add (message id, seq) from SQL, wake the pod if needed, and return True if the turn is held.

        Without messages it only requests the pod, unless its start has just failed. ``user`` is the session's, or ""
        if the caller does not know it.
        """
        ...


class TurnActivity(CommonActivity, Protocol):
    """The port of front doors. Every method raises ActivityUnavailable without Redis, SessionGone after a delete."""

    async def take(
        self,
        session: str,
        message_id: str,
        seq: int,
        lowest_unfinished: int,
        session_class: SessionClass,
        user: str = "",
    ) -> Claim | Queued | Gap:
        """Add an accepted message and claim it if it may run at once. ``user``: as of ``add``."""
        ...

    async def claim(self, session: str, session_class: SessionClass) -> Claim | NoClaim:
        """Claim the first message, or return why not. Wakes the pod if one is needed."""
        ...

    async def finish(
        self, claim: Claim, session_class: SessionClass, note: FeedNote | None, *, pod_spoiled: bool = False
    ) -> int:
        """The result is in SQL: remove the message, release the turn, publish the note, return how many wait.

        ``pod_spoiled``: replace the pod.
        """
        ...

    async def abandon(self, claim: Claim, session_class: SessionClass, *, replace_pod: bool) -> None: ...
    async def remove(self, session: str, message_id: str, session_class: SessionClass) -> bool:
        """Remove a message that ended in SQL by other means, and return True if it was running."""
        ...

    def holds(self, claim: Claim) -> bool:
        """Return True if the lease cannot have expired yet, by the local clock."""
        ...

    def let_go(self, claim: Claim) -> None:
        """Stop renewing the lease. If it was not released, it expires."""
        ...

    async def ping(self) -> None: ...
    async def inbox(self, session: str) -> list[str]: ...
    async def wake(self, session: str, session_class: SessionClass, keep_awake: float = 0.0, user: str = "") -> Woken:
        """Request the pod, for ``keep_awake`` seconds at least. ``user``: as of ``add``."""
        ...

    async def fence(self, session: str, session_class: SessionClass, *, force: bool = False) -> Fenced: ...
    async def sleep_when_idle(self, session: str) -> None: ...
    async def delete(self, session: str) -> None: ...
    async def expire(self, session: str) -> bool:
        """Remove an expired session. Return False if it is active again."""
        ...

    async def ended(self, session: str) -> None:
        """The session has expired in SQL: the scaler has to drop what the runtime keeps of it."""
        ...

    async def hot(self, session: str) -> Hot: ...
    async def next_ready(self) -> str | None:
        """Take a session that needs attention: its pod is ready, its start failed, or its inbox is stuck.

        After one lease it is given out again, unless ``attended`` was called.
        """
        ...

    async def attended(self, session: str) -> None:
        """The session that ``next_ready`` returned has been handled."""
        ...

    async def on_ready(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when a session may be ready. Calls may be lost."""
        ...

    async def on_gone(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the uid of a pod that is gone. Calls may be lost."""
        ...

    async def why_died(self, uid: str) -> str | None:
        """Return why the pod ended by itself, or None if no scaler has reported it."""
        ...

    async def notify(self, session: str, note: FeedNote) -> None:
        """Publish a live note to the watchers of the session."""
        ...

    async def piece(self, claim: Claim, note: FeedNote, keep_for: float, *, begins: bool = False) -> None:
        """Publish a piece of the turn's reply, and keep it for ``keep_for`` seconds for those who join later.

        ``begins``: what earlier attempts left is dropped first.
        """
        ...

    async def pieces(self, session: str) -> list[FeedNote]:
        """Return the kept pieces of the turn that runs, oldest first."""
        ...

    def watch(
        self, session: str, allowance: Allowance | None = None
    ) -> AbstractAsyncContextManager[asyncio.Queue[FeedNote]]:
        """Open a queue of live notes of the session. Notes may be lost.

        With an ``allowance``, a watcher that lags loses all that wait and gets ``LAGGED`` instead.
        """
        ...


class ScalerActivity(CommonActivity, Protocol):
    """The port of the scaler, which wakes pods and puts them to sleep."""

    async def on_scale(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with each session whose pod may have to start or stop. Calls may be lost."""
        ...

    async def beat(self, *, deputy: bool = False) -> bool:
        """This scaler observes the pods: addresses stay valid for the next heartbeat period.

        Return False without effect for a ``deputy`` that is not needed, since another scaler observes the pods.
        """
        ...

    async def watched(self) -> bool:
        """Return True if a scaler observes the pods."""
        ...

    async def desire(self, session: str) -> Desire: ...
    async def admit(self, session: str) -> None:
        """The session has a slot for its pod, which KEDA may start too from now on."""
        ...

    async def unforgotten(self) -> list[str]:
        """Return the ended sessions of which the runtime may still keep something."""
        ...

    async def forgotten(self, session: str) -> None:
        """The runtime keeps nothing of the ended session any more."""
        ...

    async def publish(self, session: str, address: PodAddress, session_class: SessionClass, *, old: bool) -> bool:
        """The pod answers. Return False if it is no longer wanted. ``old``: it was started in an earlier generation."""
        ...

    async def lost(self, session: str, uid: str) -> None:
        """The pod is gone. If the session has nothing to do, its pod is no longer wanted."""
        ...

    async def died(self, uid: str, reason: str) -> None:
        """Keep for a while why the pod ended by itself, for the front door whose turn it ends."""
        ...

    async def fail(self, session: str, failure: Failure, retry_in: float) -> None: ...
    async def phase(self, session: str, words: str) -> None: ...
    async def fence(
        self, session: str, session_class: SessionClass, *, force: bool = False, suspend: bool = False
    ) -> Fenced:
        """``force`` ignores the deadline; ``suspend`` also ignores waiting messages, which go on waiting."""
        ...

    async def crowd(self, users: Mapping[str, int]) -> None:
        """These users have as many awake pods as they may have: their numbers, for those who wait."""
        ...

    async def make_room(self, session: str) -> bool:
        """Put an idle pod to sleep before its deadline, unless a wake keeps it awake. Return True if it goes."""
        ...
