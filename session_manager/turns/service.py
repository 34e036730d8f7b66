"""The path of a message, from the caller's side: accept, run or queue, wait, cancel.

Once ``accept`` has committed, the caller can rely on the message: whatever fails afterwards, the answer is that it is
queued, and the repair completes the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from session_manager.activity.protocol import START_FAILED, Claim, FeedNote, Gap, Queued, SessionGone
from session_manager.aio.tasks import end_within
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.message import Accepted, Message, MessageStatus, NewMessage, Outcome
from session_manager.domain.mode import Mode, suspended
from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass, class_of_session
from session_manager.domain.times import seconds
from session_manager.tracing.context import current
from session_manager.turns.drain import Drains
from session_manager.turns.feed import DELETED, Feed
from session_manager.turns.kit import Kit, TurnTools
from session_manager.turns.turn import Turn

log = logging.getLogger(__name__)

_NEWS = frozenset({"event", DELETED, START_FAILED})  # notes after which a message may have its result


@dataclass(slots=True)
class Ticket:
    """An accepted message. ``turn``: the result of the turn that runs here, or None if it is recorded elsewhere.

    Without a turn the message waits at ``position``, which is None if Redis was unavailable. ``crowd``: as of Woken.
    """

    message: Message
    turn: asyncio.Future[Outcome | None] | None = None
    position: int | None = None
    awake: bool = False
    crowd: int = 0


Notes: TypeAlias = AsyncIterator[FeedNote | None]


class Progress(NamedTuple):
    """The status of a message, and for a waiting one why its pod cannot start."""

    status: MessageStatus
    failure: Failure | None = None


@dataclass(slots=True, eq=False)
class Turns:
    kit: Kit
    tools: TurnTools
    drains: Drains
    feed: Feed
    _running: set[asyncio.Task[int]] = field(init=False, default_factory=set)

    async def close(self, patience: float) -> None:
        """Give turns that run ``patience`` seconds. Those cut off are delivered again elsewhere."""
        await end_within(patience, self._running)

    async def submit(self, new: NewMessage, access: Access) -> Ticket:
        """Make the message durable and run it if it may run at once.

        NotFound, IdempotencyMismatch, WrongMode, Unavailable: nothing was accepted.
        """
        if self.kit.modes.mode(new.session) is Mode.SUSPENDED:
            await self.kit.store.get_session(new.session, access)
            raise suspended()
        with self.tools.spans.during("accept", current.get(), session=new.session):
            accepted = await self.kit.store.accept(new, access)
        ticket = Ticket(accepted.message)
        if accepted.repeated:
            return ticket
        asked = time.perf_counter()
        try:
            session_class = class_of_session(self.kit.classes, accepted.session.class_name)
            taken = await self._take(accepted, session_class)
        except SessionGone:
            raise NotFound("no such session") from None
        except Unavailable:
            log.warning(
                "accepted, will be enqueued later", extra={"event": "turn.not_enqueued", "session": new.session}
            )
            return ticket
        if isinstance(taken, Claim):
            self.tools.times.lease_wait.observe(time.perf_counter() - asked)
            ticket.turn = self._run(taken, session_class, accepted)
            ticket.awake = True
        else:
            ticket.position, ticket.awake, ticket.crowd = taken.position, taken.awake, taken.crowd
        return ticket

    async def _take(self, accepted: Accepted, session_class: SessionClass) -> Claim | Queued:
        message, lowest, user = accepted.message, accepted.lowest_unfinished, accepted.session.user_id
        taken = await self.kit.activity.take(message.session, message.id, message.seq, lowest, session_class, user)
        if not isinstance(taken, Gap):
            return taken
        unfinished = await self.kit.store.unfinished_of(message.session)
        if unfinished and unfinished[0].id == message.id:
            # The messages before it have ended meanwhile.
            seq = message.seq
            taken = await self.kit.activity.take(message.session, message.id, seq, seq, session_class, user)
            if not isinstance(taken, Gap):
                return taken
        pairs = [(each.id, each.seq) for each in unfinished]
        held = await self.kit.activity.add(message.session, pairs, session_class, user)
        if not held:
            self.drains.start(message.session)
        ids = [each.id for each in unfinished]
        return Queued(position=ids.index(message.id) + 1 if message.id in ids else 1, awake=held)

    def _run(self, claim: Claim, session_class: SessionClass, accepted: Accepted) -> asyncio.Future[Outcome | None]:
        result: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

        def resolve(outcome: Outcome | None) -> None:
            if not result.done():
                result.set_result(outcome)

        turn = Turn(self.kit, self.tools, claim, session_class, accepted.session, on_recorded=resolve)
        task = asyncio.create_task(turn.run(accepted.message), name=claim.session)
        self._running.add(task)
        task.add_done_callback(self._ran)
        task.add_done_callback(lambda _: resolve(None))
        return result

    def _ran(self, task: asyncio.Task[int]) -> None:
        """Go on with the messages that wait behind the turn."""
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            extra = {"event": "turn.crashed", "session": task.get_name()}
            log.error("a turn ended unexpectedly", exc_info=error, extra=extra)
        elif task.result():
            self.drains.start(task.get_name())

    async def outcome(self, ticket: Ticket, answer_within: float, wait: float | None) -> Outcome | None:
        """Return the result, or None if it takes longer than ``wait`` seconds.

        Without ``wait`` a turn that runs here gets ``answer_within`` seconds, and any other none. The turn goes on in
        any case, also when the caller is gone.
        """
        if ticket.turn is None:
            return await self._outcome_elsewhere(ticket.message, wait or 0.0)
        patience = answer_within if wait is None else wait
        deadline = asyncio.get_running_loop().time() + patience
        if not await _done_within(ticket.turn, patience):
            return None
        outcome = ticket.turn.result()
        if outcome is not None:
            return outcome
        ticket.turn, ticket.awake, ticket.position = None, False, 1
        left = deadline - asyncio.get_running_loop().time() if wait else 0.0
        return await self._outcome_elsewhere(ticket.message, left)

    async def _outcome_elsewhere(self, message: Message, wait: float) -> Outcome | None:
        """Look into SQL now, and for ``wait`` seconds whenever the feed has a note or a sign of life.

        Stop waiting when the pod cannot start and is not tried again in that time.
        """
        if wait <= 0:
            return await self.recorded(message)
        until = time.time() + wait
        with suppress(TimeoutError):
            async with asyncio.timeout(wait), aclosing(self.feed.notes(message.session, replay=False)) as notes:
                async for note in notes:
                    if note is not None and note["kind"] not in _NEWS:
                        continue
                    outcome = await self.recorded(message)
                    if outcome is not None:
                        return outcome
                    if (note is None or note["kind"] == START_FAILED) and await self._in_vain(message.session, until):
                        return None
        return None

    async def _in_vain(self, session: str, until: float) -> bool:
        failure = await self.failure(session)
        return failure is not None and seconds(failure.next_try) > until

    async def follow(self, ticket: Ticket, notes: Notes) -> AsyncGenerator[FeedNote | Failure | Outcome | None, None]:
        """Yield what happens to the message: its live notes, failed starts of its pod, and last its outcome.

        None is a sign of life. ``notes`` are those of the feed. NotFound: the session was deleted.
        """
        message = ticket.message
        if ticket.turn is None and (failure := await self.failure(message.session)) is not None:
            yield failure
        outcome = await self.recorded(message)
        while outcome is None:
            note = await anext(notes)
            kind = "" if note is None else note["kind"]
            if kind == DELETED:
                raise NotFound("no such session")
            if kind == START_FAILED:
                yield await self.failure(message.session)
            elif note is None or note.get("message_id", message.id) == message.id:
                if kind != "event":
                    yield note
                if kind in ("", "event"):
                    outcome = await self.recorded(message)
        yield outcome

    async def recorded(self, message: Message) -> Outcome | None:
        """Return the result in SQL, or None if there is none or the database is unavailable.

        NotFound: the session was deleted. Never Unavailable: that would say that the message was not accepted.
        """
        try:
            present = await self.kit.store.get_message(message.session, message.id, EVERYTHING)
        except Unavailable:
            return None
        return None if present.status is None else Outcome(present.status, present.response, present.error)

    async def cancel(self, session: str, message_id: str, access: Access) -> Message:
        """End a message that has no result yet as failed, and return it. A running turn loses its pod.

        Conflict: the message has a result. Unavailable: nothing was committed.
        """
        message, event, class_name = await self.kit.store.cancel(session, message_id, access)
        self.tools.adk_history.behind.add(session)
        try:
            await self.kit.activity.remove(session, message_id, class_of_session(self.kit.classes, class_name))
            await self.kit.activity.notify(session, {"kind": "event", "number": event.number, "message_id": message_id})
        except (Unavailable, SessionGone):
            # The turn's own front door, or the repair, finds the result in SQL.
            log.info("cancelled; Redis is updated later", extra={"event": "turn.cancelled", "session": session})
        return message

    async def progress(self, message: Message) -> Progress:
        """Return its status. Without Redis an unfinished message is reported as queued."""
        if message.status is not None:
            return Progress(message.status)
        hot = await self._hot(message.session)
        if hot.running == message.id:
            return Progress(MessageStatus.RUNNING)
        return Progress(MessageStatus.QUEUED, _failure_of(hot))

    async def failure(self, session: str) -> Failure | None:
        """Return why the pod of the session cannot start, or None if it may start, or Redis is unavailable."""
        return _failure_of(await self._hot(session))

    async def _hot(self, session: str) -> Hot:
        try:
            return await self.kit.activity.hot(session)
        except Unavailable:
            return Hot()


def _failure_of(hot: Hot) -> Failure | None:
    return None if hot.wanted else hot.failure


async def _done_within(future: asyncio.Future[Outcome | None], seconds: float) -> bool:
    """Do what asyncio.wait does, for one future and at a third of the cost: the hot path passes here."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(seconds, wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        future.remove_done_callback(wake)
    return future.done()
