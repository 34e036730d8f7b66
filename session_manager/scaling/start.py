"""One start of a pod, for as long as it is wanted."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from session_manager.activity.protocol import ScalerActivity, SessionGone
from session_manager.aio.tasks import cancel, wait_for_either
from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import Address, Runtime

log = logging.getLogger(__name__)


class Start:
    """``poke`` is set when somebody says that there is something to look at."""

    def __init__(
        self,
        activity: ScalerActivity,
        runtime: Runtime,
        session: str,
        session_class: SessionClass,
        poke: asyncio.Event,
    ) -> None:
        self._activity = activity
        self._runtime = runtime
        self._session = session
        self._class = session_class
        self._poke = poke

    async def run(self) -> Address | None:
        """Start a pod; None when the session stopped wanting it before it answered. PodCannotStart."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        phases = _Phases(self._activity, self._session)
        starting = asyncio.create_task(self._runtime.start_pod(self._session, self._class, phases.tell))
        try:
            while not starting.done():
                await wait_for_either(starting, self._poke.wait())
                if self._poke.is_set() and not starting.done():
                    self._poke.clear()
                    if not await self._still_wanted():
                        await cancel(starting)
            if starting.cancelled():
                return None
            # It may have ended, well or not, while we asked: publishing it, or its failure, tells that nobody wants it.
            pod = starting.result()
        finally:
            await cancel(starting)
            await phases.close()
        extra = {"event": "pod.started", "session": self._session, "duration": round(loop.time() - began, 3)}
        log.info("pod started", extra=extra)
        return pod

    async def _still_wanted(self) -> bool:
        try:
            desire = await self._activity.desire(self._session)
        except Unavailable:
            return True
        return desire.wanted and not desire.deleted


class _Phases:
    """Tells Redis how far a start is. Only the latest phase matters, and no start waits for it."""

    def __init__(self, activity: ScalerActivity, session: str) -> None:
        self._activity = activity
        self._session = session
        self._latest: str | None = None
        self._telling: asyncio.Task[None] | None = None

    def tell(self, words: str) -> None:
        self._latest = words
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        while self._latest is not None:
            words, self._latest = self._latest, None
            with suppress(Unavailable, SessionGone):
                await self._activity.phase(self._session, words)

    async def close(self) -> None:
        if self._telling is not None:
            await cancel(self._telling)
