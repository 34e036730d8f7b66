"""One claimed turn, from the claim to the recorded result.

The fence is the attempt in SQL.  A fresh claim is attempt 1; any other claim first commits the next attempt, so that a
result of an earlier holder, who may still be working somewhere, is dropped.  The lease in Redis only saves double work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from session_manager.activity.protocol import Claim, SessionGone
from session_manager.aio.retry import until_available
from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.adk.pod_events import TurnRights
from session_manager.domain.errors import (
    NotFound,
    PodBusy,
    PodDied,
    PodMisdirected,
    PodRejected,
    PodUnreachable,
    SessionManagerError,
    Unavailable,
)
from session_manager.domain.message import MAX_DEATHS, Message, Outcome
from session_manager.domain.session import Session
from session_manager.domain.session_class import AppState, PodProtocol, Redelivery, SessionClass
from session_manager.domain.times import seconds
from session_manager.podclient.protocol import AdkExchange, TurnRequest
from session_manager.tracing.context import Trace, current
from session_manager.turns.adk import turn_events
from session_manager.turns.kit import DIED, Kit, TurnTools

log = logging.getLogger(__name__)

MAX_BUSY_ANSWERS = 3
REPORT_WITHIN = 2.0  # seconds in which a scaler reports why a pod died
REPORT_TRIES = 20
PIECE = 512  # characters that a piece counts beside its data, for its note and the work of those who read it
MAX_KEPT = 1024 * 1024  # characters of a reply's pieces that are kept for those who join its turn


@dataclass(slots=True)
class _Verdict:
    """The end of the pod's work. ``spoiled``: the pod has to be replaced."""

    outcome: Outcome
    spoiled: bool = False


@dataclass(slots=True, eq=False)
class Turn:
    """``on_recorded`` gets the outcome as soon as it is final, which is before Redis knows it."""

    kit: Kit
    tools: TurnTools
    claim: Claim
    session_class: SessionClass
    session: Session
    on_recorded: Callable[[Outcome], None] | None = None
    message: Message = field(init=False)
    exchange: AdkExchange | None = field(init=False, default=None)
    began: float = field(init=False, default=0.0)
    chunks: int = field(init=False, default=0)
    kept: int = field(init=False, default=0)

    async def run(self, accepted: Message | None = None) -> int:
        """Run the turn and return how many messages wait behind it. ``accepted``: its message, if the caller has it."""
        held = time.perf_counter()
        try:
            return await self._run(accepted)
        except SessionGone:
            return 0
        except asyncio.CancelledError:
            # This process ends: others need not wait until the lease has expired.
            with suppress(SessionGone, Unavailable):
                await self.kit.activity.abandon(self.claim, self.session_class, replace_pod=True)
            raise
        finally:
            self.kit.activity.let_go(self.claim)
            self.tools.times.lease_hold.observe(time.perf_counter() - held)

    async def _run(self, accepted: Message | None) -> int:
        message = accepted if self.claim.fresh else None
        if message is None:
            message = await until_available(self._open_attempt)
        if message is None:
            return await self._finish(None)
        if message.finished_at is None and self._must_replace:
            return await self._abandon(replace_pod=True)
        if not self.kit.activity.holds(self.claim):
            # So much time has passed that another front door may hold the turn: leave it to that one.
            return await self._abandon(replace_pod=False)
        self.message = message
        parent = Trace.stored(message.trace)
        span = self.tools.spans.during(
            "turn", parent, session=message.session, message=message.id, attempt=message.attempt
        )
        with span as trace:
            current.set(trace)
            return await self._work(parent)

    @property
    def _must_replace(self) -> bool:
        return self.claim.replace and self.session_class.redelivery is Redelivery.REPLACE

    async def _open_attempt(self) -> Message | None:
        """Return the message with this claim's attempt, or None if it has its result or its session is deleted."""
        if not self.claim.fresh and not self._must_replace:
            return await self.kit.store.begin_redelivery(self.claim.message_id)
        message = await self._stored_message()
        return message if message is not None and message.finished_at is None else None

    async def _stored_message(self) -> Message | None:
        try:
            return await self.kit.store.get_message(self.claim.session, self.claim.message_id, EVERYTHING)
        except NotFound:
            return None

    # -- the pod's part ------------------------------------------------------------------------------------------------

    async def _work(self, parent: Trace | None) -> int:
        message, times = self.message, self.tools.times
        self.began = time.time()
        if message.attempt == 1:
            accepted = seconds(message.accepted_at)
            times.queue_wait.observe(max(0.0, self.began - accepted))
            self.tools.spans.between("queue", parent, accepted, self.began, session=message.session)
        asked = time.perf_counter()
        try:
            verdict = await self._ask()
        except (PodDied, PodMisdirected) as error:
            times.turn[DIED].observe(time.perf_counter() - asked)
            return await self._died(error.detail)
        except PodUnreachable:
            return await self._abandon(replace_pod=True)
        except (SessionManagerError, SessionGone):
            raise
        except Exception:
            # A bug in our own code: as after the death of a pod, the third time ends the turn and not the inbox.
            log.exception(
                "a turn's exchange broke down", extra={"event": "turn.broke_down", "session": message.session}
            )
            return await self._died("Session Manager made an error; see its log")
        times.turn[verdict.outcome.status].observe(time.perf_counter() - asked)
        return await self._record(verdict)

    async def _ask(self) -> _Verdict:
        message, limit = self.message, self.session_class.turn_timeout
        request = await self._request(message, limit)
        if message.attempt > 1:
            note = {"kind": "turn.restarted", "message_id": message.id, "attempt": message.attempt}
            await self._publish(note, begins=True)
        try:
            with self.tools.spans.during("pod", current.get(), calls=True, session=message.session) as trace:
                async with asyncio.timeout(limit):
                    reply = await self._ask_patiently(request._replace(trace=trace) if trace else request)
        except TimeoutError:
            return _Verdict(Outcome.failed(f"the turn took longer than {limit:g} s"), spoiled=True)
        except PodRejected as error:
            return _Verdict(Outcome.failed(error.detail))
        return _Verdict(Outcome.processed(reply))

    async def _request(self, message: Message, limit: float) -> TurnRequest:
        session, uuid, attempt, tokens = self.session, self.claim.session, message.attempt, self.tools.tokens
        if not tokens.loaded:
            await until_available(tokens.load)
        token = tokens.mint(uuid, message.id, attempt, limit)
        if self.session_class.protocol is PodProtocol.ADK:
            key = AdkKey(session.app, session.user_id, session.adk_id)
            writes = self.session_class.app_state is AppState.WRITE
            rights = TurnRights(message.id, self.began, app_state=writes)
            self.exchange = AdkExchange(key, message.payload, rights=rights)
        return TurnRequest(uuid, session.user_id, message.id, attempt, message.text, token, self.exchange)

    async def _ask_patiently(self, request: TurnRequest) -> str:
        answers = 0
        while True:
            try:
                return await self.tools.pods.chat(self.claim.address, self.session_class, request, self._on_delta)
            except PodBusy as busy:
                answers += 1
                if answers == MAX_BUSY_ANSWERS:
                    raise PodRejected(f"the pod answered 503 {answers} times") from None
                await asyncio.sleep(busy.retry_after)

    async def _on_delta(self, data: str) -> None:
        self.chunks += 1
        which = {"message_id": self.message.id, "attempt": self.message.attempt, "chunk": self.chunks}
        self.kept += len(data) + PIECE
        begins = self.chunks == 1 and self.message.attempt == 1
        await self._publish({"kind": "delta", **which, "data": data}, begins=begins)

    async def _publish(self, note: dict[str, object], *, begins: bool) -> None:
        keep_for = self.session_class.turn_timeout if self.kept <= MAX_KEPT else 0.0
        try:
            await self.kit.activity.piece(self.claim, note, keep_for, begins=begins)
        except (Unavailable, SessionGone):
            log.debug("a live note was dropped", extra={"event": "feed.dropped", "session": self.claim.session})

    async def _died(self, seen: str) -> int:
        """Try again, unless this was the last time. ``seen``: what the front door noticed of it."""
        message = self.message
        deaths = await until_available(lambda: self.kit.store.record_death(message.id, message.attempt))
        extra = {"event": "turn.pod_died", "session": self.claim.session, "deaths": deaths}
        log.warning("the pod died during a turn", extra=extra)
        if deaths is not None and deaths < MAX_DEATHS:
            return await self._abandon(replace_pod=True)
        why = await self._why_died() or seen
        outcome = Outcome.failed(f"the pod died {deaths} times while it worked on this message; the last time: {why}")
        return await self._record(_Verdict(outcome, spoiled=True))

    async def _why_died(self) -> str | None:
        """Return the scaler's report of the pod's end. It may come later than the end of the connection."""
        for _ in range(REPORT_TRIES):
            with suppress(Unavailable):
                why = await self.kit.activity.why_died(self.claim.address.uid)
                if why is not None:
                    return why
            await asyncio.sleep(REPORT_WITHIN / REPORT_TRIES)
        return None

    # -- its end -------------------------------------------------------------------------------------------------------

    async def _record(self, verdict: _Verdict) -> int:
        message, outcome = self.message, verdict.outcome
        events = [(f"turn.{outcome.status}", "{}")]
        exchange, record = self.exchange, self.kit.store.record
        adk = turn_events(message, self.session.app, outcome, self.began, exchange) if exchange else None
        stored = await until_available(lambda: record(message.id, message.attempt, outcome, events, adk))
        if stored is None:
            return await self._fenced_off()
        if adk is None:
            await self._update_adk_history()
        if self.on_recorded is not None:
            # The answer need not wait for Redis: the release is on its way there before the answer leaves.
            self.on_recorded(outcome)
        note = {"kind": "event", "number": stored[-1].number, "message_id": message.id}
        return await self._finish(note, spoiled=verdict.spoiled)

    async def _update_adk_history(self) -> None:
        """Soon, or now for a message from ADK's routes: it may change the state that others read."""
        history = self.tools.adk_history
        if self.message.payload is None:
            history.behind.add(self.claim.session)
        else:
            await history.catch_up(self.claim.session)

    async def _fenced_off(self) -> int:
        """The message was cancelled or deleted, or it has another attempt. If that one is open, the turn is its."""
        message = await until_available(self._stored_message)
        if message is None:
            return 0
        if message.finished_at is not None:
            return await self._finish(None)
        return await self._abandon(replace_pod=False)

    async def _finish(self, note: dict[str, object] | None, *, spoiled: bool = False) -> int:
        """Release the turn. The result is safe in SQL, so an unavailable Redis delays nothing and is updated later."""
        finish = partial(self.kit.activity.finish, self.claim, self.session_class, note, pod_spoiled=spoiled)

        async def finish_later() -> None:
            with suppress(SessionGone):
                await finish()

        try:
            return await finish()
        except Unavailable:
            self.tools.late.start(until_available(finish_later), f"finish {self.claim.session}")
            return 0

    async def _abandon(self, *, replace_pod: bool) -> int:
        """Leave the message to the next claim."""
        await until_available(
            lambda: self.kit.activity.abandon(self.claim, self.session_class, replace_pod=replace_pod)
        )
        return 0
