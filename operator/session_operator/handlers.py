"""Turns events into keys of the queue: Sessions and SessionClasses from our own watches, their children from kopf.

Of kopf only ``on.event`` is used.  It neither retries nor sets finalizers, which would block the deletion of a Session
while the operator is down.  The queue retries by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.resources import Resources, SessionView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.watch import DELETED
from session_operator.children import Children
from session_operator.reconcile import CLASS_KEY, Reconciler
from session_operator.work_queue import WorkQueue


class Events:
    """Takes each event as (type, object). kopf's type is None for what existed when its watch began."""

    def __init__(self, resources: Resources, children: Children, reconciler: Reconciler, queue: WorkQueue) -> None:
        self._sessions = resources.sessions.objects
        self._children = children
        self._reconciler = reconciler
        self._queue = queue
        resources.sessions.listen(self._on_session)
        resources.class_watch.listen(self._on_class)

    def _on_session(self, _: str, session: SessionView) -> None:
        self._queue.add(session.uuid)

    def _on_class(self, kind: str, spec: ClassSpec) -> None:
        self._queue.add(CLASS_KEY + spec.name)
        for session in self._sessions.values():
            if session.class_name == spec.name and (kind == DELETED or session.status.get("phase") == "Failed"):
                self._queue.add(session.uuid)

    def on_deployment(self, kind: str | None, deployment: Json) -> None:
        name = deployment["metadata"]["name"]
        session = names.session_of_child(name)
        if session is None:
            pool = names.class_of_pool(name)
            if pool is not None and kind == DELETED:
                self._queue.add(CLASS_KEY + pool)
            return
        if self._children.seen(session, None if kind == DELETED else deployment) and kind is not None:
            self._reconciler.touched(session)
            self._queue.add(session)

    def on_service(self, kind: str | None, service: Json) -> None:
        """Repair a deleted Service at once. Its content never drifts."""
        session = names.session_of_child(service["metadata"]["name"])
        if session is not None and kind == DELETED:
            self._children.lost(session)
            self._queue.add(session)


def register(registry: kopf.OperatorRegistry, events: Events) -> None:
    """Have kopf log in and feed ``events``."""
    kopf.on.login(registry=registry)(_login)
    _watch(registry, events.on_deployment, "apps", "v1", "deployments")
    _watch(registry, events.on_service, "", "v1", "services")


def _watch(
    registry: kopf.OperatorRegistry, listener: Callable[[str | None, Json], None], group: str, version: str, plural: str
) -> None:
    async def handle(event: Any, **_: Any) -> None:
        listener(event["type"], event["object"])

    kopf.on.event(group, version, plural, registry=registry, id=f"{plural}")(handle)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in by KUBECONFIG, or by the service account of the pod."""
    return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)


def settings() -> kopf.OperatorSettings:
    """Turn off posting, scanning and peering, so that rights to one namespace suffice."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True
    found.queueing.exit_timeout = 0.1  # seconds; the handlers only fill the queue, so nothing is lost with them
    for kind in ("deployments.v1.apps", "services.v1"):
        found.watching.label_selectors[kind] = names.MANAGED_SELECTOR
    return found
