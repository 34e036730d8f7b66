"""Brings what a Session or a SessionClass consists of to what it should be, and tells its status."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from session_manager.activity.protocol import ScalerActivity, SessionGone
from session_manager.domain.errors import InvalidInput
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import SESSIONS, ApiNotFound, Cluster
from session_operator.children import Children
from session_operator.conditions import Facts, status_of
from session_operator.manifests import SessionSpec
from session_operator.resources import Resources, SessionView
from session_operator.warm import WarmPods
from session_operator.work_queue import NotYet

log = logging.getLogger(__name__)

Json = dict[str, Any]

CLASS_KEY = "class/"
TURN_LOOK = 1.0  # seconds between looks whether the last turn of a suspended session has ended


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Reconciler:
    def __init__(
        self,
        cluster: Cluster,
        resources: Resources,
        children: Children,
        answering: Answering,
        warm: WarmPods,
        activity: ScalerActivity,
        keep: Callable[[str, SessionClass], Awaitable[None]],
    ) -> None:
        self._cluster = cluster
        self._resources = resources
        self._children = children
        self._answering = answering
        self._warm = warm
        self._activity = activity
        self._keep = keep
        self._touched: set[str] = set()

    def touched(self, session: str) -> None:
        """Somebody else has written a child of the session."""
        self._touched.add(session)

    async def reconcile(self, key: str) -> None:
        """``key``: a session, or a class behind CLASS_KEY."""
        if key.startswith(CLASS_KEY):
            await self._reconcile_class(key.removeprefix(CLASS_KEY))
        else:
            await self._reconcile_session(key)

    async def _reconcile_class(self, name: str) -> None:
        try:
            spec = self._resources.classes.spec(name)
        except InvalidInput:
            return  # its pool is owned by it, and goes with it
        await self._warm.keep_pool(spec)

    async def _reconcile_session(self, session: str) -> None:
        view = await self._resources.find(session)
        if view is None:
            await self._gone(session)
            return
        try:
            spec = self._resources.spec(view)
        except InvalidInput:
            await self._tell(view, None)
            return
        repair = session in self._touched
        self._touched.discard(session)
        try:
            await self._children.ensure(spec, repair=repair)
        except BaseException:
            if repair:
                self._touched.add(session)
            raise
        await self._tell(view, spec)
        if view.mode is Mode.SUSPENDED:
            await self._suspend(spec)
        elif view.mode is Mode.ALWAYS_ON:
            await self._keep(session, spec.class_spec.base)

    async def _suspend(self, spec: SessionSpec) -> None:
        """Its pod goes as soon as nothing runs; what waits goes on waiting."""
        with suppress(SessionGone):
            answer = await self._activity.fence(spec.uuid, spec.class_spec.base, suspend=True)
            if answer not in {"PASSED", "ASLEEP"}:
                raise NotYet(TURN_LOOK)

    async def _gone(self, session: str) -> None:
        """Its pods go with it: nobody may be sent to them any more."""
        self._children.drop(session)
        self._answering.abandon(session)
        with suppress(SessionGone):
            desire = await self._activity.desire(session)
            if desire.pod:
                await self._activity.lost(session, desire.pod)

    # -- status --------------------------------------------------------------------------------------------------------

    async def _tell(self, view: SessionView, spec: SessionSpec | None) -> None:
        now = _now()
        status = status_of(self._facts(view, spec, now), view.status, now)
        if status == view.status:
            return
        body: Json = {
            "apiVersion": names.API_VERSION,
            "kind": names.SESSION_KIND,
            "metadata": {"name": view.uuid, "uid": view.uid},
            "status": status,
        }
        with suppress(ApiNotFound):
            await self._cluster.apply(SESSIONS, body, names.OPERATOR, "status")

    def _facts(self, view: SessionView, spec: SessionSpec | None, now: str) -> Facts:
        pod = self._answering.of_session(view.uuid)
        last_wake = view.status.get("lastWakeTime")
        if pod is not None and view.status.get("podName") != pod.name:
            last_wake = now
        return Facts(
            mode=view.mode,
            class_found=spec is not None,
            class_name=view.class_name,
            trouble=self._answering.troubles.get(view.uuid),
            pod=None if pod is None else pod.name,
            last_wake=last_wake,
            keda_missing=spec is not None and self._children.lacks_keda(spec),
            generation=view.generation,
        )
