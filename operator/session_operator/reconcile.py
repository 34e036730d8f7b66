"""Reconciles the children of Sessions and the warm pools of SessionClasses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from session_manager.activity.protocol import Fenced, ScalerActivity, SessionGone
from session_manager.domain.errors import InvalidInput
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec
from session_operator.children import Children
from session_operator.statuses import Statuses
from session_operator.warm import WarmPods
from session_operator.work_queue import NotYet, PutOff

CLASS_KEY = "class/"
CHILDREN_LATEST = 5.0  # seconds that the children of a session with a warm pod wait while others are being claimed
TURN_LOOK = 1.0  # seconds between checks that the last turn of a suspended session has ended


class Reconciler:
    def __init__(
        self,
        resources: Resources,
        children: Children,
        answering: Answering,
        warm: WarmPods,
        activity: ScalerActivity,
        keep: Callable[[str, SessionClass], Awaitable[None]],
        statuses: Statuses,
    ) -> None:
        self._resources = resources
        self._children = children
        self._answering = answering
        self._warm = warm
        self._activity = activity
        self._keep = keep
        self._statuses = statuses
        self._put_off = PutOff(CHILDREN_LATEST)
        self._touched: set[str] = set()

    def touched(self, session: str) -> None:
        """Something else has written a child of the session."""
        self._touched.add(session)

    async def reconcile(self, key: str) -> None:
        """Reconcile a session, or a class if ``key`` starts with CLASS_KEY."""
        if key.startswith(CLASS_KEY):
            await self._reconcile_class(key.removeprefix(CLASS_KEY))
        else:
            await self._reconcile_session(key)

    async def _reconcile_class(self, name: str) -> None:
        try:
            spec = self._resources.classes.spec(name)
        except InvalidInput:
            return  # the class owns its pool, which is deleted with it
        await self._warm.keep_pool(spec)

    async def _reconcile_session(self, session: str) -> None:
        view = await self._resources.find(session)
        if view is None:
            await self._gone(session)
            return
        self._statuses.add(session)
        try:
            spec = self._resources.spec(view)
        except InvalidInput:
            return
        repair = session in self._touched
        may_wait = spec.class_spec.warm > 0 and not self._children.known(session)
        self._put_off.wait(session, while_=may_wait and not self._warm.quiet)
        self._touched.discard(session)
        try:
            await self._children.ensure(spec, repair=repair)
        except BaseException:
            if repair:
                self._touched.add(session)
            raise
        if view.mode is Mode.SUSPENDED:
            await self._suspend(spec)
        elif view.mode is Mode.ALWAYS_ON:
            await self._keep(session, spec.class_spec.base)

    async def _suspend(self, spec: SessionSpec) -> None:
        """End its pod as soon as no turn runs. Messages go on waiting."""
        with suppress(SessionGone):
            answer = await self._activity.fence(spec.uuid, spec.class_spec.base, suspend=True)
            if answer not in {Fenced.PASSED, Fenced.ASLEEP}:
                raise NotYet(TURN_LOOK)

    async def _gone(self, session: str) -> None:
        """Stop addressing the pods of a Session that is gone; they are deleted with it."""
        self._children.drop(session)
        self._answering.abandon(session)
        with suppress(SessionGone):
            desire = await self._activity.desire(session)
            if desire.pod:
                await self._activity.lost(session, desire.pod)
