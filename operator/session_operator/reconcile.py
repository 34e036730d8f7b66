"""Reconciles the children of Sessions and the warm pools of SessionClasses, whenever an event may concern them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.activity.protocol import Fenced, SessionGone
from session_manager.domain.errors import InvalidInput
from session_manager.domain.mode import Mode
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec, SessionView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.watch import DELETED
from session_manager.scaling.scaler import Scaler
from session_operator.children import Children
from session_operator.statuses import Statuses
from session_operator.work_queue import NotYet, PutOff, WorkQueue

CLASS_KEY = "class/"
CHILDREN_LATEST = 5.0  # seconds that the children of a session with a warm pod wait while others are being claimed
TURN_LOOK = 1.0  # seconds between checks that the last turn of a suspended session has ended


@dataclass(slots=True, eq=False)
class Reconciler:
    """``queue`` holds sessions, and classes with the prefix CLASS_KEY.

    ``touched``: sessions of which another writer has changed the Deployment.
    """

    resources: Resources
    children: Children
    answering: Answering
    scaler: Scaler
    statuses: Statuses
    workers: int
    queue: WorkQueue = field(init=False)
    put_off: PutOff = field(default_factory=lambda: PutOff(CHILDREN_LATEST))
    touched: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self._reconcile, self.workers)
        self.resources.sessions.listen(self._on_session)
        self.resources.class_watch.listen(self._on_class)

    # -- events, as (type, object). kopf's type is None for what existed when its watch began -------------------------

    def _on_session(self, _: str, session: SessionView) -> None:
        self.queue.add(session.uuid)

    def _on_class(self, kind: str, spec: ClassSpec) -> None:
        self.queue.add(CLASS_KEY + spec.name)
        for session in self.resources.sessions.objects.values():
            affected = kind == DELETED or spec.refusal or session.status.get("phase") == "Failed"
            if session.class_name == spec.name and affected:
                self.queue.add(session.uuid)

    def on_deployment(self, kind: str | None, deployment: Json) -> None:
        name = deployment["metadata"]["name"]
        session = names.session_of_child(name)
        if session is None:
            pool = names.class_of_pool(name)
            if pool is not None and kind == DELETED:
                self.queue.add(CLASS_KEY + pool)
            return
        if self.children.seen(session, None if kind == DELETED else deployment) and kind is not None:
            self.touched.add(session)
            self.queue.add(session)

    def on_service(self, kind: str | None, service: Json) -> None:
        """Repair a deleted Service at once. Its content never drifts."""
        session = names.session_of_child(service["metadata"]["name"])
        if session is not None and kind == DELETED:
            self.children.lost(session)
            self.queue.add(session)

    # -- work ----------------------------------------------------------------------------------------------------------

    async def _reconcile(self, key: str) -> None:
        if not key.startswith(CLASS_KEY):
            await self._reconcile_session(key)
            return
        with suppress(InvalidInput):  # a class that is gone owns its pool, which is deleted with it
            await self.children.warm.keep_pool(self.resources.classes.spec(key.removeprefix(CLASS_KEY)))

    async def _reconcile_session(self, session: str) -> None:
        view = await self.resources.find(session)
        if view is None:
            await self._gone(session)
            return
        self.statuses.queue.add(session)
        try:
            spec = self.resources.spec(view)
        except InvalidInput:
            return
        if spec.class_spec.refusal:
            return  # its pods stay as they are; the next wake fails
        repair = session in self.touched
        may_wait = spec.class_spec.warm > 0 and session not in self.children.live
        self.put_off.wait(session, while_=may_wait and not self.children.warm.quiet)
        self.touched.discard(session)
        try:
            await self.children.ensure(spec, repair=repair)
        except BaseException:
            if repair:
                self.touched.add(session)
            raise
        if view.mode is Mode.SUSPENDED:
            await self._suspend(spec)
        elif view.mode is Mode.ALWAYS_ON:
            await self.scaler.keep(session, spec.class_spec.base)

    async def _suspend(self, spec: SessionSpec) -> None:
        """End its pod as soon as no turn runs. Messages go on waiting."""
        with suppress(SessionGone):
            answer = await self.scaler.kit.activity.fence(spec.uuid, spec.class_spec.base, suspend=True)
            if answer not in {Fenced.PASSED, Fenced.ASLEEP}:
                raise NotYet(TURN_LOOK)

    async def _gone(self, session: str) -> None:
        """Stop addressing the pods of a Session that is gone; they are deleted with it."""
        self.children.drop(session)
        self.answering.abandon(session)
        with suppress(SessionGone):
            desire = await self.scaler.kit.activity.desire(session)
            if desire.pod:
                await self.scaler.kit.activity.lost(session, desire.pod)
