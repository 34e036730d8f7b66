"""The repair: it completes whatever is unfinished in SQL, whichever front door began it.

Notes, announcements and front doors may be lost.  So every front door reads, every ``interval`` seconds, the messages
that have been unfinished for longer than that, and does what the accept would have done.  It also sweeps: it expires
sessions, and completes interrupted teardowns of deleted ones.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from session_manager.activity.protocol import SessionGone
from session_manager.aio.tasks import is_set_within
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.message import Outcome, Unfinished
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass, class_of_session
from session_manager.domain.times import Micros, micros
from session_manager.turns.drain import Drains
from session_manager.turns.kit import Kit
from session_manager.turns.lifecycle import Lifecycle

log = logging.getLogger(__name__)

PAGE = 500
SWEEP = 100
FOLLOWED = 500
TOMBSTONE_SECONDS = 86_400


@dataclass(slots=True, eq=False)
class Repair:
    """``interval``: seconds between passes, and the least age of the messages that they look at."""

    kit: Kit
    drains: Drains
    lifecycle: Lifecycle
    interval: float
    _after: tuple[str, int] | None = field(init=False, default=None)
    _soon: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _swept_generation: bytes = field(init=False, default=b"")

    async def run(self) -> None:
        """Repair and sweep until cancelled, and at once when Redis may have lost everything."""
        self.kit.activity.on_generation(self._soon.set)
        while True:
            await is_set_within(self._soon, self.interval)
            self._soon.clear()
            for duty in (self.repair, self.sweep):
                try:
                    await duty()
                except Unavailable as error:
                    log.info("put off: %s", error.detail, extra={"event": "repair.put_off"})
                except Exception:
                    # Without these duties sessions would be stuck until the process ends, so the loop goes on.
                    log.exception("a round was left unfinished", extra={"event": "repair.crashed"})

    async def repair(self) -> None:
        """Make one pass over at most PAGE messages, from where the last one stopped."""
        before = Micros(await self.kit.store.now() - micros(self.interval))
        page = await self.kit.store.unfinished(before, PAGE, self._after)
        self._after = (page[-1].session, page[-1].seq) if len(page) == PAGE else None
        class_names = {message.session: message.class_name for message in page}
        for session, class_name in class_names.items():
            if not self.drains.draining(session):
                await self._repair_session(session, class_name)

    async def _repair_session(self, session: str, class_name: str) -> None:
        session_class = class_of_session(self.kit.classes, class_name)
        try:
            unfinished = await self._end_overdue(session, session_class)
            if not unfinished or self.kit.modes.mode(session) is Mode.SUSPENDED:
                return
            pairs = [(each.id, each.seq) for each in unfinished]
            if not await self.kit.activity.add(session, pairs, session_class, unfinished[0].user):
                self.drains.start(session)
        except (SessionGone, NotFound):
            return

    async def _end_overdue(self, session: str, session_class: SessionClass) -> list[Unfinished]:
        """Fail the messages that are older than the TTL, and return the other unfinished ones."""
        unfinished = await self.kit.store.unfinished_of(session)
        oldest = Micros(await self.kit.store.now() - micros(session_class.ttl))
        alive = []
        for message in unfinished:
            if message.accepted_at > oldest:
                alive.append(message)
                continue
            outcome = Outcome.failed(f"not processed within {session_class.ttl:g} s")
            if await self.kit.store.record(message.id, None, outcome, [("turn.failed", "{}")]) is not None:
                log.warning("message overdue", extra={"event": "turn.overdue", "session": session})
            await self.kit.activity.remove(session, message.id, session_class)
        return alive

    async def sweep(self) -> None:
        """Follow what ADK services created or removed, expire sessions, repeat teardowns, drop old tombstones.

        A Redis that came back older than it was may know a deleted session as awake: its teardown is repeated.
        """
        generation = self.kit.activity.generation
        if generation != self._swept_generation:
            await self.kit.store.reopen_teardowns()
            self._swept_generation = generation
        await self._follow_adk()
        for session in await self.kit.store.expirable(SWEEP):
            await self.lifecycle.expire(session)
        for uuid in await self.kit.store.deleted_sessions(SWEEP):
            await self.lifecycle.tear_down(uuid)
        await self.kit.store.drop_tombstones(Micros(await self.kit.store.now() - micros(TOMBSTONE_SECONDS)))

    async def _follow_adk(self) -> None:
        """Adopt and close sessions. The rest of the sweep tears closed ones down, like those that our API deleted."""
        adopted, closed = await self.kit.store.adk_sweep(FOLLOWED)
        if adopted or closed:
            extra = {"event": "repair.adk", "adopted": adopted, "closed": len(closed)}
            log.info("followed what ADK services created and removed", extra=extra)
