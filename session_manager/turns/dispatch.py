"""One claimed turn, from the claim to the recorded result.

The fence is the attempt in SQL.  A fresh claim is attempt 1; any other first commits the next attempt, so that a
result of an earlier holder, who may still be working somewhere, is dropped.  The lease in Redis only saves double
work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from session_manager.activity.protocol import Claim, SessionGone, TurnActivity
from session_manager.domain.errors import (
    NotFound,
    PodBusy,
    PodDied,
    PodMisdirected,
    PodRejected,
    PodUnreachable,
    Unavailable,
)
from session_manager.domain.message import MAX_DEATHS, Message, Outcome
from session_manager.domain.session_class import Redelivery, SessionClass
from session_manager.domain.times import seconds
from session_manager.pods.protocol import PodClient, TurnReply, TurnRequest
from session_manager.store.protocol import Store
from session_manager.turns.times import DIED, TurnTimes

log = logging.getLogger(__name__)

MAX_BUSY_ANSWERS = 3
RETRY_FIRST = 0.1
RETRY_LAST = 2.0

T = TypeVar("T")
OnRecorded = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """``outcome``: recorded by this very run (None: somebody else's, or not yet). ``left``: messages waiting now."""

    outcome: Outcome | None
    left: int


class _Spoiled(Exception):
    """The turn ends as failed, and the pod that worked on it has to go."""


async def until_available(action: Callable[[], Awaitable[T]]) -> T:
    """Repeat while a dependency is away: what a pod has done is never thrown away because of a pause."""
    pause = RETRY_FIRST
    while True:
        try:
            return await action()
        except Unavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST)


class Dispatcher:
    def __init__(self, store: Store, activity: TurnActivity, pods: PodClient) -> None:
        self._store = store
        self._activity = activity
        self._pods = pods
        self._owed: set[asyncio.Task[int]] = set()
        self.times = TurnTimes()

    async def close(self) -> None:
        """Give up what Redis is still owed: the leases end by themselves, and the repair does the rest."""
        for task in self._owed:
            task.cancel()
        await asyncio.gather(*self._owed, return_exceptions=True)

    async def run(
        self,
        claim: Claim,
        session_class: SessionClass,
        user_id: str,
        accepted: Message | None,
        on_recorded: OnRecorded | None = None,
    ) -> Ended:
        """Run one claimed message. ``accepted``: the message itself, where the caller has it at hand.

        ``on_recorded`` is called with the outcome once nothing can change it any more, which is before Redis was told.
        """
        held = time.perf_counter()
        try:
            return await self._run(claim, session_class, user_id, accepted, on_recorded)
        except SessionGone:
            return Ended(None, 0)
        finally:
            self._activity.let_go(claim)
            self.times.lease_hold.observe(time.perf_counter() - held)

    async def _run(
        self,
        claim: Claim,
        session_class: SessionClass,
        user_id: str,
        accepted: Message | None,
        on_recorded: OnRecorded | None,
    ) -> Ended:
        message = await until_available(lambda: self._open_attempt(claim, session_class, accepted))
        if message is None:
            return Ended(None, await self._finish(claim, session_class, None))
        if message.finished_at is None and self._must_replace(claim, session_class):
            await self._abandon(claim, session_class)
            return Ended(None, 0)
        if not self._activity.holds(claim):
            # So much time has passed that somebody else may hold the turn: leave it to them.
            await self._abandon(claim, session_class, replace_pod=False)
            return Ended(None, 0)
        log.debug("turn started", extra={"event": "turn.started", "session": claim.session})
        if message.attempt == 1:
            self.times.queue_wait.observe(max(0.0, time.time() - seconds(message.accepted_at)))
        asked = time.perf_counter()
        try:
            reply = await self._ask(claim, session_class, user_id, message)
            outcome, spoiled = Outcome.processed(reply.response), False
            events = reply.events
        except _Spoiled as error:
            outcome, spoiled, events = Outcome.failed(str(error)), True, []
        except PodRejected as error:
            outcome, spoiled, events = Outcome.failed(error.detail), False, []
        except (PodDied, PodMisdirected):
            self.times.turn[DIED].observe(time.perf_counter() - asked)
            return await self._died(claim, session_class, message, on_recorded)
        except PodUnreachable:
            await self._abandon(claim, session_class)
            return Ended(None, 0)
        self.times.turn[outcome.status].observe(time.perf_counter() - asked)
        return await self._record(claim, session_class, message, outcome, events, spoiled, on_recorded)

    @staticmethod
    def _must_replace(claim: Claim, session_class: SessionClass) -> bool:
        return claim.replace and session_class.redelivery is Redelivery.REPLACE

    async def _open_attempt(
        self, claim: Claim, session_class: SessionClass, accepted: Message | None
    ) -> Message | None:
        """The message with the attempt that this claim runs; None when it has its result or its session is gone."""
        if claim.fresh and accepted is not None:
            return accepted
        if claim.fresh or self._must_replace(claim, session_class):
            try:
                message = await self._store.get_message(claim.session, claim.message_id)
            except NotFound:
                return None
            return message if message.finished_at is None else None
        return await self._store.begin_redelivery(claim.message_id)

    async def _ask(self, claim: Claim, session_class: SessionClass, user_id: str, message: Message) -> TurnReply:
        request = TurnRequest(claim.session, user_id, message.id, message.attempt, message.text)
        if message.attempt > 1:
            restarted = {"kind": "turn.restarted", "message_id": message.id, "attempt": message.attempt}
            await self._tell(claim.session, restarted)
        chunk = 0

        async def on_delta(data: str) -> None:
            nonlocal chunk
            chunk += 1
            note = {"kind": "delta", "message_id": message.id, "attempt": message.attempt, "chunk": chunk, "data": data}
            await self._tell(claim.session, note)

        try:
            async with asyncio.timeout(session_class.turn_timeout):
                return await self._ask_patiently(claim, session_class, request, on_delta)
        except TimeoutError:
            raise _Spoiled(f"the turn took longer than {session_class.turn_timeout:g} s") from None

    async def _ask_patiently(
        self,
        claim: Claim,
        session_class: SessionClass,
        request: TurnRequest,
        on_delta: Callable[[str], Awaitable[None]],
    ) -> TurnReply:
        for _ in range(MAX_BUSY_ANSWERS - 1):
            try:
                return await self._pods.chat(claim.address, session_class, request, on_delta)
            except PodBusy as busy:
                await asyncio.sleep(busy.retry_after)
        try:
            return await self._pods.chat(claim.address, session_class, request, on_delta)
        except PodBusy:
            raise PodRejected(f"the pod answered 503 {MAX_BUSY_ANSWERS} times") from None

    async def _tell(self, session: str, note: dict[str, object]) -> None:
        try:
            await self._activity.tell(session, note)
        except Unavailable:
            log.debug("a live note was dropped", extra={"event": "feed.dropped", "session": session})

    async def _died(
        self, claim: Claim, session_class: SessionClass, message: Message, on_recorded: OnRecorded | None
    ) -> Ended:
        deaths = await until_available(lambda: self._store.record_death(message.id, message.attempt))
        extra = {"event": "turn.pod_died", "session": claim.session, "deaths": deaths}
        log.warning("the pod died during a turn", extra=extra)
        if deaths is not None and deaths < MAX_DEATHS:
            await self._abandon(claim, session_class)
            return Ended(None, 0)
        outcome = Outcome.failed(f"the pod died {deaths} times while it worked on this message")
        return await self._record(claim, session_class, message, outcome, [], True, on_recorded)

    async def _record(
        self,
        claim: Claim,
        session_class: SessionClass,
        message: Message,
        outcome: Outcome,
        events: list[tuple[str, str]],
        spoiled: bool,
        on_recorded: OnRecorded | None,
    ) -> Ended:
        ended = (f"turn.{outcome.status}", "{}")
        stored = await until_available(
            lambda: self._store.record(message.id, message.attempt, outcome, [*events, ended])
        )
        if stored is None:
            # Fenced off: cancelled, deleted, or another attempt was opened. If that one is still open, the turn is its.
            return Ended(None, await self._let_go(claim, session_class))
        if on_recorded is not None:
            # Its answer need not wait for Redis: the release is on its way there before the answer leaves.
            on_recorded(outcome)
        note = {"kind": "event", "number": stored[-1].number, "message_id": message.id}
        return Ended(outcome, await self._finish(claim, session_class, note, spoiled=spoiled))

    async def _let_go(self, claim: Claim, session_class: SessionClass) -> int:
        try:
            message = await until_available(lambda: self._store.get_message(claim.session, claim.message_id))
        except NotFound:
            return 0
        if message.finished_at is not None:
            return await self._finish(claim, session_class, None)
        await self._abandon(claim, session_class, replace_pod=False)
        return 0

    async def _finish(
        self, claim: Claim, session_class: SessionClass, note: dict[str, object] | None, *, spoiled: bool = False
    ) -> int:
        """The result is safe in SQL, so nobody waits for a Redis that is away: it is told when it is back."""

        def finish() -> Awaitable[int]:
            return self._activity.finish(claim, session_class, note, pod_spoiled=spoiled)

        try:
            return await finish()
        except Unavailable:
            task = asyncio.ensure_future(until_available(finish))
            self._owed.add(task)
            task.add_done_callback(self._owed.discard)
            return 0

    async def _abandon(self, claim: Claim, session_class: SessionClass, *, replace_pod: bool = True) -> None:
        await until_available(lambda: self._activity.abandon(claim, session_class, replace_pod=replace_pod))
