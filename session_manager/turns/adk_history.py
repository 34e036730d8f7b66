"""Turns of pods that do not speak ADK, told to ADK's events a moment after they ended, many in one commit.

To write them with every result would cost a third of all the turns that a front door can do.  Nothing hangs on this
process: what is left to tell stands in SQL, ADK's own door asks for it before it answers, and every front door looks
for what others have left.
"""

from __future__ import annotations

import asyncio
import logging

from session_manager.domain.errors import Unavailable
from session_manager.store.protocol import Store

log = logging.getLogger(__name__)

PAUSE = 2.0  # seconds, for which a real service of ADK's that reads the same database may be behind
LOOK_EVERY = 30  # pauses: for sessions of front doors that are gone
FOUND = 1000
AT_ONCE = 20  # sessions in one commit


class AdkHistory:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: set[str] = set()

    def note(self, session: str) -> None:
        """A turn of it has ended."""
        self._noted.add(session)

    async def tell(self, session: str) -> None:
        """Now, unless the database is away."""
        try:
            await self._store.adk_catch_up(session)
        except Unavailable:
            self._noted.add(session)

    async def run(self) -> None:
        """For ever."""
        look_in = 0
        while True:
            try:
                if look_in == 0:
                    found = await self._store.adk_behind(FOUND)
                    self._noted.update(found)
                    look_in = LOOK_EVERY if len(found) < FOUND else 1
                look_in -= 1
                await self.flush()
            except Unavailable as error:
                log.info("put off: %s", error.detail, extra={"event": "adk_history.put_off"})
            except Exception:
                log.exception("a round was left unfinished", extra={"event": "adk_history.crashed"})
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Tell of all that was noted. Unavailable: what is left, is left to the next time."""
        noted, self._noted = list(self._noted), set()
        for start in range(0, len(noted), AT_ONCE):
            try:
                await self._store.adk_catch_up(*noted[start : start + AT_ONCE])
            except Unavailable:
                self._noted.update(noted[start:])
                raise
