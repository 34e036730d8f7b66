"""Runs the turns that this process has claimed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial

from session_manager.activity.protocol import Claim, SessionGone, TurnActivity
from session_manager.aio.retry import Retries
from session_manager.domain.errors import Unavailable
from session_manager.domain.message import Message
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClass
from session_manager.people.tokens import SECRET_NAME, Tokens
from session_manager.podclient.protocol import PodClient
from session_manager.store.protocol import Store
from session_manager.turns.adk_history import AdkHistory
from session_manager.turns.times import TurnTimes
from session_manager.turns.turn import OnRecorded, Turn, Workshop


class Dispatcher:
    """``tokens``: what the pods' credentials are made with, and checked."""

    def __init__(self, store: Store, activity: TurnActivity, pods: PodClient) -> None:
        self._activity = activity
        self._owed = Retries()
        self.times = TurnTimes()
        self.tokens = Tokens(partial(store.secret, SECRET_NAME))
        self.adk_history = AdkHistory(store)
        self._shop = Workshop(store, activity, pods, self.times, self._owed, self.tokens, self.adk_history)

    async def close(self) -> None:
        """Give up what Redis is still owed: the leases end by themselves, and the repair does the rest."""
        await self._owed.close()

    async def run(
        self,
        claim: Claim,
        session_class: SessionClass,
        session: Session,
        accepted: Message | None,
        on_recorded: OnRecorded | None = None,
    ) -> int:
        """Run one claimed message; how many wait now. ``accepted``: the message itself, where it is at hand.

        ``on_recorded`` is called with the outcome once nothing can change it any more, which is before Redis was told.
        """
        held = time.perf_counter()
        try:
            return await Turn(self._shop, claim, session_class, session, on_recorded).run(accepted)
        except SessionGone:
            return 0
        except asyncio.CancelledError:
            # Cut off because this process ends: others need not wait until the lease has run out.
            with suppress(SessionGone, Unavailable):
                await self._activity.abandon(claim, session_class, replace_pod=True)
            raise
        finally:
            self._activity.let_go(claim)
            self.times.lease_hold.observe(time.perf_counter() - held)
