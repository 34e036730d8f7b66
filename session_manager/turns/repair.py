"""The one repair: what SQL has unfinished is brought to an end, whoever was to do it.

Publishes, announcements and front doors may be lost.  So every front door reads, every ``interval`` seconds, what has
been unfinished for longer than that, and does what the accept would have done.  It also sweeps: expiry, and teardowns
of deleted sessions that were cut short.
"""

from __future__ import annotations

import asyncio
import logging

from session_manager.activity.protocol import SessionGone, TurnActivity
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.message import Outcome, Unfinished
from session_manager.domain.mode import AllAuto, Mode, Modes
from session_manager.domain.session_class import SessionClasses, class_of
from session_manager.domain.times import Micros, micros
from session_manager.store.protocol import Store
from session_manager.turns.drain import Drains
from session_manager.turns.lifecycle import Lifecycle

log = logging.getLogger(__name__)

PAGE = 500
SWEEP = 100
FOLLOWED = 500
TOMBSTONE_SECONDS = 86_400


class Repair:
    """``interval`` in seconds: between passes, and the age of what they look at."""

    def __init__(
        self,
        store: Store,
        activity: TurnActivity,
        drains: Drains,
        lifecycle: Lifecycle,
        classes: SessionClasses,
        interval: float,
        modes: Modes | None = None,
    ) -> None:
        self._store = store
        self._activity = activity
        self._drains = drains
        self._lifecycle = lifecycle
        self._classes = classes
        self._interval = interval
        self._modes = modes or AllAuto()
        self._after: tuple[str, int] | None = None
        self._soon = asyncio.Event()
        self._told = b""

    async def run(self) -> None:
        """Repair and sweep, for ever; at once when Redis lost its memory."""
        self._activity.on_generation(self._soon.set)
        while True:
            await self._pause()
            for duty in (self.repair, self.sweep):
                try:
                    await duty()
                except Unavailable as error:
                    log.info("put off: %s", error.detail, extra={"event": "repair.put_off"})
                except Exception:
                    # Without these duties sessions would be stuck until the process ends: they are tried again.
                    log.exception("a round was left unfinished", extra={"event": "repair.crashed"})

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._soon.wait()
        except TimeoutError:
            pass
        self._soon.clear()

    async def repair(self) -> None:
        """One pass over at most PAGE messages, going on where the last one stopped."""
        before = Micros(await self._store.now() - micros(self._interval))
        page = await self._store.unfinished(before, PAGE, self._after)
        self._after = (page[-1].session, page[-1].seq) if len(page) == PAGE else None
        first_of: dict[str, Unfinished] = {}
        for message in page:
            first_of.setdefault(message.session, message)
        for session, message in first_of.items():
            if not self._drains.draining(session):
                await self._repair_session(session, message.class_name)

    async def _repair_session(self, session: str, class_name: str) -> None:
        session_class = class_of(self._classes, class_name)
        try:
            unfinished = await self._end_overdue(session, await self._store.unfinished_of(session), session_class.ttl)
            if not unfinished or self._modes.mode(session) is Mode.SUSPENDED:
                return
            pairs = [(each.id, each.seq) for each in unfinished]
            if not await self._activity.add(session, pairs, session_class):
                self._drains.start(session)
        except (SessionGone, NotFound):
            return

    async def _end_overdue(self, session: str, unfinished: list[Unfinished], ttl: float) -> list[Unfinished]:
        oldest = Micros(await self._store.now() - micros(ttl))
        alive = []
        for message in unfinished:
            if message.accepted_at > oldest:
                alive.append(message)
                continue
            outcome = Outcome.failed(f"not processed within {ttl:g} s")
            if await self._store.record(message.id, None, outcome, [("turn.failed", "{}")]) is not None:
                log.warning("message overdue", extra={"event": "turn.overdue", "session": session})
            session_class = class_of(self._classes, message.class_name)
            await self._activity.remove(session, message.id, session_class)
        return alive

    async def sweep(self) -> None:
        """Settle what ADK services made or removed, expire what is past its TTL, repeat teardowns, forget tombstones.

        A Redis that came back older than it was may know a deleted session as one that is awake: it is told again.
        """
        generation = self._activity.generation
        if generation != self._told:
            await self._store.reopen_teardowns()
            self._told = generation
        await self._follow_adk()
        for session in await self._store.expirable(SWEEP):
            await self._lifecycle.expire(session)
        for uuid in await self._store.deleted_sessions(SWEEP):
            await self._lifecycle.tear_down(uuid)
        await self._store.drop_tombstones(Micros(await self._store.now() - micros(TOMBSTONE_SECONDS)))

    async def _follow_adk(self) -> None:
        """What is closed here is torn down by the rest of the sweep, as if it had been deleted on our own door."""
        adopted, closed = await self._store.adk_sweep(FOLLOWED)
        if adopted or closed:
            extra = {"event": "repair.adk", "adopted": adopted, "closed": len(closed)}
            log.info("sessions followed what ADK services made and removed", extra=extra)
