"""Does the scaler's work while no scaler does it, so that pods go on waking, answering and sleeping.

Several front doors may want to stand in.  The heartbeat in Redis admits one of them, and ends its turn as soon as the
scaler comes back.  The deputy leaves every pod as it is, and the scaler finds them all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from session_manager.aio.retry import Backoff, until_available
from session_manager.domain.errors import Unavailable
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.kit import ScalerKit
from session_manager.scaling.scaler import Scaler

log = logging.getLogger(__name__)


class StandIn:
    """``open_runtime`` creates the Runtime for one turn as a deputy."""

    def __init__(self, kit: ScalerKit, open_runtime: Callable[[], Runtime]) -> None:
        self._kit = kit
        self._activity = kit.activity
        self._times = kit.times
        self._open_runtime = open_runtime
        self._scaler: Scaler | None = None

    async def run(self) -> None:
        """Stand in whenever no scaler beats, until cancelled."""
        self._activity.on_generation(self._on_generation)
        every_tick = Backoff(self._times.tick, self._times.tick)
        await until_available(lambda: self._activity.on_scale(self._on_scale), every_tick)
        while True:
            await self._until_unwatched()
            log.warning("no scaler watches the pods; standing in", extra={"event": "deputy.begins"})
            try:
                await self._stand_in()
            except Exception:
                # The next turn may go better, and the rest of the process has other things to do.
                log.exception("standing in failed", extra={"event": "deputy.failed"})
                await asyncio.sleep(self._times.tick)
            log.info("a scaler watches the pods again", extra={"event": "deputy.ends"})

    def _on_scale(self, session: str) -> None:
        if self._scaler is not None:
            self._scaler.workers.poke(session)

    def _on_generation(self) -> None:
        if self._scaler is not None:
            self._scaler.workers.poke_pods()

    async def _until_unwatched(self) -> None:
        """Wait until the heartbeat has been missing for longer than it is after Redis came back empty."""
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
            self._scaler = Scaler(self._kit, runtime, deputy=True)
            await self._scaler.run()
        finally:
            self._scaler = None
            await runtime.close()
