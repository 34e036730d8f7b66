"""Ends stray Deployments: those with one replica although no pod is wanted and none answers.

A start that was interrupted between its steps leaves one behind, and so does an external scale-up whose pod never
answers.  (If the pod answers, the watch of pods finds it, and it sleeps like any other.)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.activity.protocol import Fenced, ScalerActivity, SessionGone
from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import ApiError
from session_manager.runtime.kubernetes.resources import Resources
from session_operator.children import Children

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Strays:
    """``patience``: seconds; longer than a lease, and longer than Redis takes to be filled again after a loss."""

    activity: ScalerActivity
    resources: Resources
    children: Children
    answering: Answering
    patience: float
    since: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look for strays until cancelled."""
        while True:
            await asyncio.sleep(self.patience / 5)
            await self.look(asyncio.get_running_loop().time())

    async def look(self, now: float) -> None:
        """End the Deployments that have been strays for too long at ``now``."""
        strays = [session for session in self.children.scaled_up() if not self.answering.busy(session)]
        self.since = {session: self.since.get(session, now) for session in strays}
        for session, since in list(self.since.items()):
            if now - since >= self.patience:
                try:
                    await self._end(session)
                except (Unavailable, ApiError, SessionGone) as error:
                    extra = {"event": "stray.put_off", "session": session, "reason": str(error)}
                    log.info("ending a stray Deployment was put off", extra=extra)

    async def _end(self, session: str) -> None:
        view = await self.resources.find(session)
        if view is None:
            return  # the Deployment is deleted with its Session
        with suppress(InvalidInput):
            session_class = self.resources.spec(view).class_spec.base
            desire = await self.activity.desire(session)
            if desire.wanted or desire.deleted:
                return  # the scaler works on it
            if desire.pushed:
                # An external push wants the pod. If it cannot start, our own start will report why.
                await self.activity.add(session, (), session_class)
                return
            if await self.activity.fence(session, session_class, force=True) not in {Fenced.PASSED, Fenced.ASLEEP}:
                return
        if await self.children.sleep(session, unless=lambda: self.answering.busy(session)):
            del self.since[session]
            log.warning("ended a stray Deployment", extra={"event": "stray.ended", "session": session})
