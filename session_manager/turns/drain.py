"""Draining: one task per session claims and runs its waiting messages until nothing is left.

The lease decides which front door drains, so any number of them may try.  At most ``max_drains`` sessions are drained
at once, a quarter of them of one user, so that slow turns of one user do not hold up the others.  More sessions wait
here for their turn; the repair finds those that found no room even for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from session_manager.activity.protocol import Claim, SessionGone
from session_manager.aio.retry import until_available
from session_manager.aio.shares import Shares
from session_manager.aio.tasks import end_within, is_set_within, wait_for_either
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session import Session
from session_manager.domain.session_class import class_of_session
from session_manager.turns.kit import Kit, TurnTools
from session_manager.turns.turn import Turn

log = logging.getLogger(__name__)

USERS = 4  # so many users together take all slots
WAITING = 4  # sessions that run or wait here, for each that may run


@dataclass(slots=True, eq=False)
class Drains:
    """``look_every``: seconds after which it looks for announced sessions without being notified."""

    kit: Kit
    tools: TurnTools
    max_drains: int
    look_every: float
    _running: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _announced: set[str] = field(init=False, default_factory=set)
    _ready: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _closing: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _shares: Shares = field(init=False)

    def __post_init__(self) -> None:
        self._shares = Shares(self.max_drains, lambda _: max(1, self.max_drains // USERS))

    @property
    def full(self) -> bool:
        return self._closing.is_set() or len(self._running) >= self.max_drains * WAITING

    def draining(self, session: str) -> bool:
        return session in self._running

    def stop(self) -> None:
        """Stop claiming. Turns that run go on."""
        self._closing.set()

    async def close(self, patience: float) -> None:
        """Stop, and give drains ``patience`` seconds to finish their current turn."""
        self.stop()
        await end_within(patience, self._running.values())

    def start(self, session: str, *, announced: bool = False) -> bool:
        """Drain a session, unless it is already being drained. Return False if there is no place.

        ``announced``: by the scaler, so what it found is committed first.
        """
        if session in self._running:
            return True
        if self.full:
            return False
        task = asyncio.create_task(self._guarded(session, announced), name=f"drain {session}")
        self._running[session] = task
        task.add_done_callback(lambda _: self._ended(session))
        return True

    def _ended(self, session: str) -> None:
        del self._running[session]
        if session in self._announced:
            self._announced.remove(session)
            self.start(session, announced=True)

    async def _guarded(self, session: str, announced: bool) -> None:
        try:
            await (self._welcome if announced else self._drain)(session)
        except Unavailable as error:
            log.info("drain put off: %s", error.detail, extra={"event": "drain.put_off", "session": session})
        except (NotFound, SessionGone):
            log.debug("drain of a deleted session", extra={"event": "drain.gone", "session": session})
        except Exception:
            # The repair comes back to the session once its lease has expired.
            log.exception("a drain ended unexpectedly", extra={"event": "drain.crashed", "session": session})
        finally:
            self._ready.set()

    async def _drain(self, uuid: str) -> None:
        session = await self.kit.store.get_session(uuid, EVERYTHING)
        slot = self._shares.ask(uuid, session.user_id)
        try:
            if not slot.done():
                await wait_for_either(slot, self._closing.wait())
            await self._run_turns(session)
        finally:
            self._shares.leave(uuid)

    async def _run_turns(self, session: Session) -> None:
        uuid, session_class = session.uuid, class_of_session(self.kit.classes, session.class_name)
        while not self._closing.is_set() and self.kit.modes.mode(uuid) is not Mode.SUSPENDED:
            asked = time.perf_counter()
            claim = await self.kit.activity.claim(uuid, session_class)
            if not isinstance(claim, Claim):
                return
            self.tools.times.lease_wait.observe(time.perf_counter() - asked)
            if not await Turn(self.kit, self.tools, claim, session_class, session).run():
                return

    # -- sessions that the scaler announces -----------------------------------------------------------------------

    async def run(self) -> None:
        """Take announced sessions until cancelled. Announcements may be lost, so it also looks by itself."""
        await until_available(lambda: self.kit.activity.on_ready(self._ready.set))
        while True:
            await is_set_within(self._ready, self.look_every)
            self._ready.clear()
            try:
                await self._take_ready()
            except Unavailable:
                continue

    async def _take_ready(self) -> None:
        while not self.full:
            session = await self.kit.activity.next_ready()
            if session is None:
                return
            if session in self._running:
                # Its drain may have looked too early, and does not commit what the scaler found.
                self._announced.add(session)
            else:
                self.start(session, announced=True)

    async def _welcome(self, uuid: str) -> None:
        """Commit what the scaler found, which has no access to SQL, then drain."""
        try:
            await until_available(lambda: self._commit_facts(uuid))
        except NotFound:
            log.debug("a deleted session was announced", extra={"event": "drain.gone", "session": uuid})
        await self.kit.activity.attended(uuid)
        await self._drain(uuid)

    async def _commit_facts(self, uuid: str) -> None:
        hot = await self.kit.activity.hot(uuid)
        session = await self.kit.store.get_session(uuid, EVERYTHING)
        if hot.address and (session.woken_at is None or session.failure is not None):
            await self.kit.store.record_wake(uuid)
        elif hot.failure is not None and not hot.wanted:
            await self.kit.store.record_failure(uuid, hot.failure)
            extra = {"event": "session.failed", "session": uuid, "reason": hot.failure.reason}
            log.warning("the pod cannot start", extra=extra)
