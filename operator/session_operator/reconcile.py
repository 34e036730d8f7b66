"""Reconciles the children of Sessions and the warm pools of SessionClasses, whenever an event may concern them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.activity.protocol import Fenced, SessionGone
from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec, SessionView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble
from session_manager.runtime.kubernetes.watch import DELETED
from session_manager.scaling.scaler import Scaler
from session_operator import manifests
from session_operator.children import Children
from session_operator.classes import ClassKeeper
from session_operator.fields import service_differs
from session_operator.statuses import Statuses
from session_operator.work_queue import NotYet, PutOff, WorkQueue

CLASS_KEY = "class/"
CHILDREN_LATEST = 5.0  # seconds that the children of a session with a warm pod wait while others are being claimed
TURN_LOOK = 1.0  # seconds between checks that the last turn of a suspended session has ended


@dataclass(slots=True, eq=False)
class Reconciler:
    """``queue`` holds sessions, and classes with the prefix CLASS_KEY.

    ``touched``: sessions of which another writer has changed the Deployment. ``known``: each class as it was last seen.
    ``pools``: the generation of each pool's Deployment.
    """

    resources: Resources
    children: Children
    answering: Answering
    scaler: Scaler
    statuses: Statuses
    classes: ClassKeeper
    workers: int
    queue: WorkQueue = field(init=False)
    put_off: PutOff = field(default_factory=lambda: PutOff(CHILDREN_LATEST))
    touched: set[str] = field(default_factory=set)
    known: dict[str, ClassSpec] = field(default_factory=dict)
    pools: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self._reconcile, self.workers)
        self.resources.sessions.listen(self._on_session)
        self.resources.class_watch.listen(self._on_class)
        self.classes.on_verdict.append(self._on_verdict)

    # -- events, as (type, object). kopf's type is None for what existed when its watch began -------------------------

    def _on_session(self, _: str, session: SessionView) -> None:
        self.queue.add(session.uuid)

    def _on_class(self, kind: str, spec: ClassSpec) -> None:
        if kind != DELETED and self.known.get(spec.name) == spec:
            return  # only its status has changed
        self.known[spec.name] = spec
        if kind == DELETED:
            del self.known[spec.name]
        self.queue.add(CLASS_KEY + spec.name)
        self._queue_sessions_of(spec.name)

    def _on_verdict(self, spec: ClassSpec, refusal: Trouble | None) -> None:
        if refusal is None:
            for session in self.resources.sessions.objects.values():
                if session.class_name == spec.name:
                    # Whatever hindered its last start, the next one has a class that was accepted since then.
                    self.answering.troubles.pop(session.uuid, None)
        self._queue_sessions_of(spec.name)

    def _queue_sessions_of(self, class_name: str) -> None:
        for session in self.resources.sessions.objects.values():
            if session.class_name == class_name:
                self.queue.add(session.uuid)

    def on_deployment(self, kind: str | None, deployment: Json) -> None:
        name = deployment["metadata"]["name"]
        session = names.session_of_child(name)
        if session is None:
            pool = names.class_of_pool(name)
            if pool is not None:
                self._on_pool(pool, None if kind == DELETED else deployment["metadata"]["generation"])
            return
        deployments = self.children.deployments
        if deployments.seen(session, None if kind == DELETED else deployment) and kind is not None:
            self.touched.add(session)
            self.queue.add(session)

    def _on_pool(self, pool: str, generation: int | None) -> None:
        """Write a pool again that another writer may have changed. Its first event shows no change."""
        before = self.pools.pop(pool, None)
        if generation is not None:
            self.pools[pool] = generation
        if before is not None and generation != before:
            self.classes.lost_pool(pool)
            self.queue.add(CLASS_KEY + pool)

    def on_service(self, kind: str | None, service: Json) -> None:
        """Repair a Service that was deleted or changed."""
        session = names.session_of_child(service["metadata"]["name"])
        if session is not None and (kind == DELETED or self._is_changed(session, service)):
            self.children.lost(session)
            self.queue.add(session)

    def _is_changed(self, session: str, service: Json) -> bool:
        view = self.resources.sessions.objects.get(session)
        if view is None or session not in self.children.complete:
            return False
        with suppress(InvalidInput, Unavailable):
            return service_differs(manifests.service(self.resources.spec(view)), service)
        return False

    # -- work ----------------------------------------------------------------------------------------------------------

    async def _reconcile(self, key: str) -> None:
        if not key.startswith(CLASS_KEY):
            await self._reconcile_session(key)
            return
        await self.classes.keep(key.removeprefix(CLASS_KEY))

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
        if self.classes.refusal_of(view.class_name) is not None:
            return  # it would be refused; a verdict that changes queues the session again
        repair = session in self.touched
        may_wait = spec.class_spec.warm > 0 and session not in self.children.deployments.live
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
