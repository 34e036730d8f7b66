"""Deployments that stand at one replica while nobody wants a pod and none answers.

A start that was cut short between its steps leaves one behind, and so does a pod that somebody else scaled up and that
never comes to answer.  (One that answers is found by the watch of pods, and sleeps like any other.)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from session_manager.activity.protocol import Fenced, ScalerActivity, SessionGone
from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import ApiError
from session_operator.children import Children
from session_operator.resources import Resources

log = logging.getLogger(__name__)


class Strays:
    """``patience`` in seconds: longer than a lease, and than a Redis that came back empty takes to know all again."""

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
        """Look, for ever."""
        while True:
            await asyncio.sleep(self._patience / 5)
            await self.look(asyncio.get_running_loop().time())

    async def look(self, now: float) -> None:
        """End those that have been standing for too long at ``now``."""
        strays = [session for session in self._children.standing() if self._is_stray(session)]
        self._since = {session: self._since.get(session, now) for session in strays}
        for session, since in list(self._since.items()):
            if now - since >= self._patience:
                try:
                    await self._end(session)
                except (Unavailable, ApiError, SessionGone) as error:
                    extra = {"event": "stray.put_off", "session": session, "reason": str(error)}
                    log.info("a stray Deployment is left for now", extra=extra)

    def _is_stray(self, session: str) -> bool:
        return not self._answering.busy(session)

    async def _end(self, session: str) -> None:
        view = await self._resources.find(session)
        if view is None:
            return  # it goes with its Session
        with suppress(InvalidInput):
            session_class = self._resources.spec(view).class_spec.base
            desire = await self._activity.desire(session)
            if desire.wanted or desire.deleted:
                return  # the scaler is at it
            if desire.pushed:
                # Somebody else wants the pod. If it cannot start, then a start of ours says why.
                await self._activity.add(session, (), session_class)
                return
            if await self._activity.fence(session, session_class, force=True) not in {Fenced.PASSED, Fenced.ASLEEP}:
                return
        if await self._children.sleep(session, unless=lambda: self._answering.busy(session)):
            del self._since[session]
            log.warning("a Deployment that nobody wanted was ended", extra={"event": "stray.ended", "session": session})
