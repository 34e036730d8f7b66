"""The scaler: beats in Redis as long as it watches the pods, and finds the sessions whose worker has something to do.

Redis publishes these sessions, but a publication may be lost.  So a regular tick finds what was missed.

While no scaler beats, a front door works as its deputy.  Several may want to: the heartbeat in Redis admits one of
them, and ends its turn as soon as the scaler comes back.  The deputy leaves every pod as it is, and the scaler finds
them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from session_manager.activity.protocol import SessionGone, Wakefulness
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import Background, first_of
from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodExit, Runtime
from session_manager.scaling.workers import ScalerKit, Workers

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Scaler:
    """``deputy``: it stands in while the scaler whose work this is does not run."""

    kit: ScalerKit
    runtime: Runtime
    deputy: bool = False
    workers: Workers = field(init=False)
    background: Background = field(init=False, default_factory=Background)
    _told: tuple[bytes, dict[str, int]] = field(init=False, default=(b"", {}))

    def __post_init__(self) -> None:
        self.workers = Workers(self.kit, self.runtime, self.deputy)

    async def run(self) -> None:
        """Run until cancelled. A deputy returns as soon as another scaler takes over; its creator pokes the workers.

        Cancelling stops the workers but no pod: ending those is the runtime's ``close``.
        """
        self.runtime.on_exit(self._on_exit)
        every_tick = Backoff(self.kit.times.tick, self.kit.times.tick)
        await until_available(self._disown, every_tick)
        if not await until_available(lambda: self.kit.activity.beat(deputy=self.deputy), every_tick):
            return
        await until_available(self._take_stock, every_tick)
        self.workers.open = True
        if not self.deputy:
            self.kit.activity.on_generation(self.workers.poke_pods)
            await until_available(lambda: self.kit.activity.on_scale(self.workers.poke), every_tick)
        try:
            await first_of(
                self._beat(),
                self._repeat(self._tick, self.kit.times.tick),
                self._repeat(self._keep, self.kit.times.keep),
            )
        finally:
            await self.workers.close()
            await self.background.close()

    async def _disown(self) -> None:
        """Withdraw the addresses of pods that went unwatched, before the first beat makes all addresses valid again."""
        pods = self.runtime.pods()
        for session, state in (await self.kit.activity.awake()).items():
            if state.address:
                with suppress(SessionGone):
                    desire = await self.kit.activity.desire(session)
                    if desire.pod and (session not in pods or pods[session].uid != desire.pod):
                        await self.kit.activity.lost(session, desire.pod)

    async def _take_stock(self) -> None:
        """Count the pods that are there already for their users, before another one starts."""
        awake = await self.kit.activity.awake()
        for session in self.runtime.pods():
            user = awake[session].user if session in awake else ""
            self.workers.slots.found(session, self.workers.user_of(session, user))

    async def _beat(self) -> None:
        """Renew the heartbeat until no deputy is needed."""
        while True:
            await asyncio.sleep(self.kit.times.heartbeat / 5)
            with suppress(Unavailable):
                if not await self.kit.activity.beat(deputy=self.deputy):
                    return

    async def _repeat(self, action: Callable[[], Awaitable[None]], pause: float) -> None:
        """Repeat the action until cancelled. If it fails, the next round tries again."""
        while True:
            try:
                with suppress(Unavailable):
                    await action()
            except Exception:
                # Without these rounds sessions would wait until the process ends.
                log.exception("a round of the scaler failed", extra={"event": "scaler.failed"})
            await asyncio.sleep(pause)

    async def _tick(self) -> None:
        """Poke sessions that lack a pod, are due to sleep, or have an unwanted pod, and make room for others."""
        awake = await self.kit.activity.awake()
        pods = self.runtime.pods()
        for session, state in awake.items():
            if state.due or not state.address or session not in pods:
                self.workers.poke(session)
        for session in pods:
            if session not in awake:
                self.workers.poke(session)
        if not self.deputy:
            for session in await self.kit.activity.unforgotten():
                self.workers.poke(session)
        await self._make_room(awake)
        await self._tell_crowded()

    async def _tell_crowded(self) -> None:
        """Let front doors say for what a session waits."""
        crowded = (self.kit.activity.generation, self.workers.slots.at_limit())
        if crowded != self._told:
            await self.kit.activity.crowd(crowded[1])
            self._told = crowded

    async def _make_room(self, awake: Mapping[str, Wakefulness]) -> None:
        """Put idle pods to sleep that keep others from starting, those first whose deadlines come first.

        A session that waits because of its user's quota gets the slot of another one of this user.
        """
        slots = self.workers.slots
        for user, waiting in slots.crowded().items():
            own = slots.pods_of(user)
            await self._free({session: state for session, state in awake.items() if session in own}, own, waiting)
        squeezed = slots.squeezed()
        if squeezed:
            await self._free(awake, self.runtime.pods(), squeezed)

    async def _free(self, awake: Mapping[str, Wakefulness], pods: Collection[str], waiting: int) -> None:
        """Put as many of these pods to sleep as sessions wait, without those that are on their way already."""
        waiting -= sum(session not in awake for session in pods)
        always_on = {session for session, _ in self.kit.always_on()}
        for session, state in awake.items():
            if waiting <= 0:
                return
            if state.address and session in pods and session not in always_on:
                with suppress(SessionGone):
                    waiting -= await self.kit.activity.make_room(session)

    async def _keep(self) -> None:
        """Keep the pods of sessions that are always on wanted, each time beyond the next round."""
        for session, session_class in self.kit.always_on():
            with suppress(Unavailable, SessionGone):
                await self.keep(session, session_class)

    async def keep(self, session: str, session_class: SessionClass) -> None:
        """Want the pod of a session that is always on."""
        idle_timeout = max(session_class.idle_timeout, 4 * self.kit.times.keep)
        await self.kit.activity.add(session, (), replace(session_class, idle_timeout=idle_timeout))

    def _on_exit(self, exit_: PodExit) -> None:
        extra = {"event": "pod.exited", "session": exit_.session, "reason": exit_.reason}
        log.warning("a pod ended by itself", extra=extra)
        self.background.start(self._report_death(exit_), f"death of {exit_.uid}")
        self.workers.poke(exit_.session)

    async def _report_death(self, exit_: PodExit) -> None:
        words = f"; its last output: {exit_.last_words}" if exit_.last_words else ""
        with suppress(Unavailable):
            await self.kit.activity.died(exit_.uid, exit_.reason + words)


@dataclass(slots=True, eq=False)
class StandIn:
    """``open_runtime`` creates the Runtime for one turn as a deputy."""

    kit: ScalerKit
    open_runtime: Callable[[], Runtime]
    scaler: Scaler | None = None

    async def run(self) -> None:
        """Stand in whenever no scaler beats, until cancelled."""
        self.kit.activity.on_generation(self._on_generation)
        every_tick = Backoff(self.kit.times.tick, self.kit.times.tick)
        await until_available(lambda: self.kit.activity.on_scale(self._on_scale), every_tick)
        while True:
            await self._until_unwatched()
            log.warning("no scaler watches the pods; standing in", extra={"event": "deputy.begins"})
            try:
                await self._stand_in()
            except Exception:
                # The next turn may go better, and the rest of the process has other things to do.
                log.exception("standing in failed", extra={"event": "deputy.failed"})
                await asyncio.sleep(self.kit.times.tick)
            log.info("a scaler watches the pods again", extra={"event": "deputy.ends"})

    def _on_scale(self, session: str) -> None:
        if self.scaler is not None:
            self.scaler.workers.poke(session)

    def _on_generation(self) -> None:
        if self.scaler is not None:
            self.scaler.workers.poke_pods()

    async def _until_unwatched(self) -> None:
        """Wait until the heartbeat has been missing for longer than it is after Redis came back empty."""
        loop = asyncio.get_running_loop()
        since = None
        while since is None or loop.time() - since < self.kit.times.heartbeat / 2:
            await asyncio.sleep(self.kit.times.heartbeat / 5)
            try:
                watched = await self.kit.activity.watched()
            except Unavailable:
                watched = True
            since = None if watched else since or loop.time()

    async def _stand_in(self) -> None:
        runtime = self.open_runtime()
        try:
            await runtime.start()
            self.scaler = Scaler(self.kit, runtime, deputy=True)
            await self.scaler.run()
        finally:
            self.scaler = None
            await runtime.close()
