"""Ends stray Deployments: those with one replica although no pod is wanted and none answers.

A start that was interrupted between its steps leaves one behind, and so does an external scale-up whose pod never
answers.  (If the pod answers, the watch of pods finds it, and it sleeps like any other.)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from session_manager.activity.protocol import Fenced, ScalerActivity, SessionGone
from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import ApiError
from session_manager.runtime.kubernetes.resources import Resources
from session_operator.children import Children

log = logging.getLogger(__name__)


class Strays:
    """``patience``: seconds; longer than a lease, and longer than Redis takes to be filled again after a loss."""

    def __init__(
        self,
        activity: ScalerActivity,
        resources: Resources,
        children: Children,
        answering: Answering,
        patience: float,
    ) -> None:
        self._activity = activity
        self._resources = resources
        self._children = children
        self._answering = answering
        self._patience = patience
        self._since: dict[str, float] = {}

    async def run(self) -> None:
        """Look for strays until cancelled."""
        while True:
            await asyncio.sleep(self._patience / 5)
            await self.look(asyncio.get_running_loop().time())

    async def look(self, now: float) -> None:
        """End the Deployments that have been strays for too long at ``now``."""
        strays = [session for session in self._children.scaled_up() if not self._answering.busy(session)]
        self._since = {session: self._since.get(session, now) for session in strays}
        for session, since in list(self._since.items()):
            if now - since >= self._patience:
                try:
                    await self._end(session)
                except (Unavailable, ApiError, SessionGone) as error:
                    extra = {"event": "stray.put_off", "session": session, "reason": str(error)}
                    log.info("ending a stray Deployment was put off", extra=extra)

    async def _end(self, session: str) -> None:
        view = await self._resources.find(session)
        if view is None:
            return  # the Deployment is deleted with its Session
        with suppress(InvalidInput):
            session_class = self._resources.spec(view).class_spec.base
            desire = await self._activity.desire(session)
            if desire.wanted or desire.deleted:
                return  # the scaler works on it
            if desire.pushed:
                # An external push wants the pod. If it cannot start, our own start will report why.
                await self._activity.add(session, (), session_class)
                return
            if await self._activity.fence(session, session_class, force=True) not in {Fenced.PASSED, Fenced.ASLEEP}:
                return
        if await self._children.sleep(session, unless=lambda: self._answering.busy(session)):
            del self._since[session]
            log.warning("ended a stray Deployment", extra={"event": "stray.ended", "session": session})
