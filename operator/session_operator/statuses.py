"""Writes the status of Sessions, after more urgent work.

Apart from its Deployment, the status is most of what a new session costs, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import SESSIONS, ApiConflict, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec, SessionView
from session_operator.children import Children
from session_operator.conditions import Facts, status_of
from session_operator.work_queue import PutOff, WorkQueue

WRITERS = 2
LATEST = 5.0  # seconds that the first status of a session waits at most while other sessions lack their children


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Statuses:
    """``busy`` returns True while the children of some sessions have yet to be written."""

    def __init__(
        self,
        cluster: Cluster,
        resources: Resources,
        children: Children,
        answering: Answering,
        busy: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._resources = resources
        self._children = children
        self._answering = answering
        self._busy = busy
        self._put_off = PutOff(LATEST)
        self._queue = WorkQueue(self._write, WRITERS)

    def add(self, session: str) -> None:
        """The status of the session may have changed."""
        self._queue.add(session)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._queue.run()

    async def _write(self, session: str) -> None:
        view = await self._resources.find(session)
        self._put_off.wait(session, while_=view is not None and not view.status and self._busy())
        if view is None:
            return
        now = _now()
        status = status_of(self._facts(view, now), view.status, now)
        if status == view.status:
            return
        gone = dict.fromkeys(view.status.keys() - status.keys())
        patch: Json = {"metadata": {"uid": view.uid}, "status": {**gone, **status}}
        with suppress(ApiNotFound, ApiConflict):  # a newer Session has this name, and its event will come
            await self._cluster.merge_patch(SESSIONS, session, patch, names.OPERATOR, "status")

    def _facts(self, view: SessionView, now: str) -> Facts:
        spec = self._spec(view)
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

    def _spec(self, view: SessionView) -> SessionSpec | None:
        """Return the Session with its class, or None if the class is missing."""
        try:
            return self._resources.spec(view)
        except InvalidInput:
            return None
