"""The path of a message, from the caller's side: accept, run or queue, wait, cancel.

Once ``accept`` has committed the message is the caller's to rely on: whatever fails afterwards, the answer is that it
is queued, and the repair does what was left undone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass

from session_manager.activity.protocol import Claim, Gap, Queued, SessionGone, TurnActivity
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import Conflict, NotFound, Unavailable
from session_manager.domain.message import Accepted, Message, MessageStatus, NewMessage, Outcome
from session_manager.domain.mode import AllAuto, Mode, Modes, suspended
from session_manager.domain.session_class import SessionClass, SessionClasses, class_of
from session_manager.store.protocol import Store
from session_manager.turns.dispatch import Dispatcher
from session_manager.turns.drain import Drains
from session_manager.turns.feed import Feed

log = logging.getLogger(__name__)

CANCELLED = "cancelled"


@dataclass(slots=True)
class Ticket:
    """An accepted message. ``turn``: it runs here and now, and this will be its result, None if another recorded it.

    Otherwise it waits at ``position`` (None: Redis did not say).
    """

    message: Message
    turn: asyncio.Future[Outcome | None] | None = None
    position: int | None = None
    awake: bool = False


class Turns:
    def __init__(
        self,
        store: Store,
        activity: TurnActivity,
        dispatcher: Dispatcher,
        drains: Drains,
        classes: SessionClasses,
        feed: Feed,
        modes: Modes | None = None,
    ) -> None:
        self._store = store
        self._activity = activity
        self._dispatcher = dispatcher
        self._drains = drains
        self._classes = classes
        self._feed = feed
        self._modes = modes or AllAuto()
        self._running: set[asyncio.Task[int]] = set()
        self._closing = False

    def stop(self) -> None:
        """Start no drain after a turn; what runs goes on."""
        self._closing = True

    async def close(self, patience: float) -> None:
        """Stop; turns that run get ``patience`` seconds. What is cut off is delivered again elsewhere."""
        self.stop()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def submit(self, new: NewMessage, access: Access) -> Ticket:
        """Make the message durable and run it if it may run at once.

        NotFound, IdempotencyMismatch, WrongMode, Unavailable: nothing was accepted.
        """
        if self._modes.mode(new.session) is Mode.SUSPENDED:
            await self._store.get_session(new.session, access)
            raise suspended()
        accepted = await self._store.accept(new, access)
        ticket = Ticket(accepted.message)
        if accepted.repeated:
            return ticket
        session_class = class_of(self._classes, accepted.session.class_name)
        asked = time.perf_counter()
        try:
            taken = await self._take(accepted, session_class)
        except SessionGone:
            raise NotFound("no such session") from None
        except Unavailable:
            log.warning("accepted, to be enqueued later", extra={"event": "turn.not_enqueued", "session": new.session})
            return ticket
        if isinstance(taken, Claim):
            self._dispatcher.times.lease_wait.observe(time.perf_counter() - asked)
            ticket.turn = self._run(taken, session_class, accepted)
            ticket.awake = True
        else:
            ticket.position, ticket.awake = taken.position, taken.awake
        return ticket

    async def _take(self, accepted: Accepted, session_class: SessionClass) -> Claim | Queued:
        message, lowest = accepted.message, accepted.lowest_unfinished
        taken = await self._activity.take(message.session, message.id, message.seq, lowest, session_class)
        if not isinstance(taken, Gap):
            return taken
        unfinished = await self._store.unfinished_of(message.session)
        if unfinished and unfinished[0].id == message.id:
            # What stood before it has ended meanwhile.
            taken = await self._activity.take(message.session, message.id, message.seq, message.seq, session_class)
            if not isinstance(taken, Gap):
                return taken
        pairs = [(each.id, each.seq) for each in unfinished]
        held = await self._activity.add(message.session, pairs, session_class)
        if not held:
            self._drains.start(message.session)
        ids = [each.id for each in unfinished]
        return Queued(position=ids.index(message.id) + 1 if message.id in ids else 1, awake=held)

    def _run(self, claim: Claim, session_class: SessionClass, accepted: Accepted) -> asyncio.Future[Outcome | None]:
        result: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

        def settle(outcome: Outcome | None) -> None:
            if not result.done():
                result.set_result(outcome)

        session, message = accepted.session, accepted.message
        coroutine = self._dispatcher.run(claim, session_class, session, message, on_recorded=settle)
        task = asyncio.create_task(coroutine, name=claim.session)
        self._running.add(task)
        task.add_done_callback(self._ran)
        task.add_done_callback(lambda _: settle(None))
        return result

    def _ran(self, task: asyncio.Task[int]) -> None:
        """Go on with what waits behind the turn."""
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            extra = {"event": "turn.crashed", "session": task.get_name()}
            log.error("a turn ended unexpectedly", exc_info=error, extra=extra)
        elif task.result() and not self._closing:
            self._drains.start(task.get_name())

    async def outcome(self, ticket: Ticket, answer_within: float, wait: float | None) -> Outcome | None:
        """The result, if it comes in time: ``wait`` seconds if given, else ``answer_within`` for a turn that runs here.

        None when it does not; the turn goes on all the same, also when the caller is gone.
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
        """Look into SQL now, and for ``wait`` seconds whenever the feed says something or was silent for a while."""
        if wait <= 0:
            return await self.recorded(message)
        try:
            async with asyncio.timeout(wait), aclosing(self._feed.notes(message.session)) as notes:
                async for _ in notes:
                    outcome = await self.recorded(message)
                    if outcome is not None:
                        return outcome
        except TimeoutError:
            pass
        return None

    async def recorded(self, message: Message) -> Outcome | None:
        """The result as SQL has it; None when it has none or cannot be asked. NotFound when the session was deleted.

        Never Unavailable: that is the answer to what was not accepted.
        """
        try:
            present = await self._store.get_message(message.session, message.id, EVERYTHING)
        except Unavailable:
            return None
        return None if present.status is None else Outcome(present.status, present.response, present.error)

    async def cancel(self, session: str, message_id: str, access: Access) -> Message:
        """End a message that has no result yet, as failed. Conflict when it has one. A running turn loses its pod."""
        record = await self._store.get_session(session, access)
        session_class = class_of(self._classes, record.class_name)
        await self._store.get_message(session, message_id, access)
        stored = await self._store.record(message_id, None, Outcome.failed(CANCELLED), [("turn.failed", "{}")])
        if stored is None:
            raise Conflict("the message has ended already")
        self._dispatcher.adk_history.note(session)
        try:
            await self._activity.remove(session, message_id, session_class)
            await self._activity.tell(session, {"kind": "event", "number": stored[-1].number, "message_id": message_id})
        except (Unavailable, SessionGone):
            log.info("cancelled; Redis is told later", extra={"event": "turn.cancelled", "session": session})
        return await self._store.get_message(session, message_id, access)

    async def state(self, message: Message) -> MessageStatus:
        """queued or running, or how it ended. Without Redis an unfinished message counts as queued."""
        if message.status is not None:
            return message.status
        try:
            running = (await self._activity.hot(message.session)).running
        except Unavailable:
            return MessageStatus.QUEUED
        return MessageStatus.RUNNING if running == message.id else MessageStatus.QUEUED


async def _done_within(future: asyncio.Future[Outcome | None], seconds: float) -> bool:
    """Like asyncio.wait, of one future and at a third of its cost: the hot path passes here."""
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
