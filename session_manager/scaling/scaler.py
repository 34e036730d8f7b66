"""The scaler: beats in Redis as long as it watches the pods, and finds the sessions whose worker has something to do.

Redis publishes these sessions, but a publication may be lost.  So a regular tick finds what was missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from session_manager.activity.protocol import SessionGone
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import first_of
from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodExit, Runtime
from session_manager.scaling.kit import ScalerKit
from session_manager.scaling.workers import Workers

log = logging.getLogger(__name__)


class Scaler:
    """``deputy``: it stands in while the scaler whose work this is does not run."""

    def __init__(self, kit: ScalerKit, runtime: Runtime, *, deputy: bool = False) -> None:
        self._activity = kit.activity
        self._declared = kit.declared
        self._times = kit.times
        self._runtime = runtime
        self._deputy = deputy
        self.workers = Workers(kit, runtime, deputy=deputy)

    async def run(self) -> None:
        """Run until cancelled. A deputy returns as soon as another scaler takes over; its creator pokes the workers.

        Cancelling stops the workers but no pod: ending those is the runtime's ``close``.
        """
        self._runtime.on_exit(self._on_exit)
        every_tick = Backoff(self._times.tick, self._times.tick)
        await until_available(self._disown, every_tick)
        if not await until_available(lambda: self._activity.beat(deputy=self._deputy), every_tick):
            return
        self.workers.open()
        if not self._deputy:
            self._activity.on_generation(self.workers.poke_pods)
            await until_available(lambda: self._activity.on_scale(self.workers.poke), every_tick)
        try:
            await first_of(
                self._beat(),
                self._repeat(self._tick, self._times.tick),
                self._repeat(self._keep, self._times.keep),
            )
        finally:
            await self.workers.close()

    async def _disown(self) -> None:
        """Withdraw the addresses of pods that went unwatched, before the first beat makes all addresses valid again."""
        pods = self._runtime.pods()
        for session, state in (await self._activity.awake()).items():
            if state.address:
                with suppress(SessionGone):
                    desire = await self._activity.desire(session)
                    if desire.pod and (session not in pods or pods[session].uid != desire.pod):
                        await self._activity.lost(session, desire.pod)

    async def _beat(self) -> None:
        """Renew the heartbeat until no deputy is needed."""
        while True:
            await asyncio.sleep(self._times.heartbeat / 5)
            with suppress(Unavailable):
                if not await self._activity.beat(deputy=self._deputy):
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
        """Poke sessions that lack a pod, are due to sleep, or have a pod that is not wanted."""
        awake = await self._activity.awake()
        pods = self._runtime.pods()
        for session, state in awake.items():
            if state.due or not state.address or session not in pods:
                self.workers.poke(session)
        for session in pods:
            if session not in awake:
                self.workers.poke(session)
        if not self._deputy:
            for session in await self._activity.unforgotten():
                self.workers.poke(session)

    async def _keep(self) -> None:
        """Keep the pods of sessions that are always on wanted, each time beyond the next round."""
        for session, session_class in self._declared.always_on():
            with suppress(Unavailable, SessionGone):
                await self.keep(session, session_class)

    async def keep(self, session: str, session_class: SessionClass) -> None:
        """Want the pod of a session that is always on."""
        idle_timeout = max(session_class.idle_timeout, 4 * self._times.keep)
        await self._activity.add(session, (), replace(session_class, idle_timeout=idle_timeout))

    def _on_exit(self, exit_: PodExit) -> None:
        extra = {"event": "pod.exited", "session": exit_.session, "reason": exit_.reason}
        log.warning("a pod ended by itself", extra=extra)
        self.workers.poke(exit_.session)
