"""ADK's events of turns: those of pods that speak ADK, stored with the result, and those of all others, a moment later.

Writing the latter with every result would cost a third of the turns that a front door can run.  None of them depends on
this process: SQL knows which turns have no events yet, ADK's routes bring a session up to date before they answer, and
every front door looks for sessions that others left behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.adk.turn_events import failure_event, invocation_of, user_event
from session_manager.domain.errors import Unavailable
from session_manager.domain.message import Message, Outcome
from session_manager.podclient.protocol import AdkExchange
from session_manager.store.protocol import Store

log = logging.getLogger(__name__)

PAUSE = 2.0  # seconds that a real ADK service on the same database may be behind
LOOK_EVERY = 30  # pauses between looks for sessions of front doors that are gone
FOUND = 1000
AT_ONCE = 20  # sessions in one commit


def turn_events(message: Message, app: str, outcome: Outcome, began: float, exchange: AdkExchange) -> AdkTurn:
    """Return the events of a turn whose pod speaks ADK: the pod's own, and those that it did not send.

    ``app`` is the author of a failure. ``began``: the start of the turn, in Unix seconds.
    """
    events = tuple(exchange.events)
    invocation_id = events[0].invocation_id if events else invocation_of(message)
    if outcome.error is not None:
        events = (*events, failure_event(message, app, outcome.error, invocation_id, time.time()))
    return AdkTurn(None if exchange.kept else user_event(message, invocation_id, began), events)


@dataclass(slots=True, eq=False)
class AdkHistory:
    """Brings ADK's events up to date for sessions whose pods do not speak ADK.

    ``behind``: sessions of which a turn has ended since. The code that ends a turn adds its session.
    """

    store: Store
    behind: set[str] = field(default_factory=set)

    async def catch_up(self, session: str) -> None:
        """Bring the session up to date now, or later if the database is unavailable."""
        try:
            await self.store.adk_catch_up(session)
        except Unavailable:
            self.behind.add(session)

    async def run(self) -> None:
        """Run until cancelled."""
        look_in = 0
        while True:
            try:
                if look_in == 0:
                    found = await self.store.adk_behind(FOUND)
                    self.behind.update(found)
                    look_in = LOOK_EVERY if len(found) < FOUND else 1
                look_in -= 1
                await self.flush()
            except Unavailable as error:
                log.info("put off: %s", error.detail, extra={"event": "adk_history.put_off"})
            except Exception:
                log.exception("a round was left unfinished", extra={"event": "adk_history.crashed"})
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Bring all noted sessions up to date. Unavailable: the rest is kept for the next time."""
        behind, self.behind = list(self.behind), set()
        for start in range(0, len(behind), AT_ONCE):
            try:
                await self.store.adk_catch_up(*behind[start : start + AT_ONCE])
            except Unavailable:
                self.behind.update(behind[start:])
                raise
