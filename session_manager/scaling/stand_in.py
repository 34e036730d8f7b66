"""Does the scaler's work while nobody does: pods go on waking, answering and sleeping.

There may be several who would stand in.  The heartbeat in Redis lets one of them, and sends it home as soon as the one
whose work it is comes back.  What a deputy does then is left as it is: the other finds every pod as it stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from session_manager.activity.protocol import ScalerActivity
from session_manager.aio.retry import Backoff, until_available
from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClasses
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.declared import Declared
from session_manager.scaling.scaler import Scaler, ScalerTimes

log = logging.getLogger(__name__)


class StandIn:
    """``open_runtime`` makes a Runtime for one time of standing in."""

    def __init__(
        self,
        activity: ScalerActivity,
        open_runtime: Callable[[], Runtime],
        classes: SessionClasses,
        times: ScalerTimes,
        max_wakes: int,
        declared: Declared | None = None,
    ) -> None:
        self._activity = activity
        self._open_runtime = open_runtime
        self._classes = classes
        self._times = times
        self._max_wakes = max_wakes
        self._declared = declared
        self._scaler: Scaler | None = None

    async def run(self) -> None:
        """Watch over whoever watches the pods, for ever."""
        self._activity.on_generation(self._on_generation)
        every_tick = Backoff(self._times.tick, self._times.tick)
        await until_available(lambda: self._activity.on_wake(self._on_wake), every_tick)
        while True:
            await self._until_unwatched()
            log.warning("nobody watches the pods: standing in", extra={"event": "deputy.begins"})
            try:
                await self._stand_in()
            except Exception:
                # The next time may go better, and the rest of the process has other things to do.
                log.exception("standing in failed", extra={"event": "deputy.failed"})
                await asyncio.sleep(self._times.tick)
            log.info("somebody watches the pods", extra={"event": "deputy.ends"})

    def _on_wake(self, session: str) -> None:
        if self._scaler is not None:
            self._scaler.poke(session)

    def _on_generation(self) -> None:
        if self._scaler is not None:
            self._scaler.poke_pods()

    async def _until_unwatched(self) -> None:
        """Longer than a Redis that came back empty goes without a heartbeat while all is well."""
        loop = asyncio.get_running_loop()
        since = None
        while since is None or loop.time() - since < self._times.heartbeat / 2:
            await asyncio.sleep(self._times.heartbeat / 5)
            try:
                watched = await self._activity.watched()
            except Unavailable:
                watched = True
            since = None if watched else since or loop.time()

    async def _stand_in(self) -> None:
        runtime = self._open_runtime()
        try:
            await runtime.start()
            self._scaler = Scaler(
                self._activity,
                runtime,
                self._classes,
                self._times,
                self._max_wakes,
                deputy=True,
                declared=self._declared,
            )
            await self._scaler.run()
        finally:
            self._scaler = None
            await runtime.close()
