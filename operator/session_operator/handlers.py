"""What kopf is for: it watches, and every event becomes a key in the queue.

``on.event`` alone is used.  It neither retries nor sets finalizers, with which a Session would hang in its deletion
while the operator is down; the queue tries again by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from session_manager.runtime.kubernetes import names
from session_operator.children import Children
from session_operator.reconcile import CLASS_KEY, Reconciler
from session_operator.resources import Resources
from session_operator.work_queue import WorkQueue

Json = dict[str, Any]

DELETED = "DELETED"


class Events:
    """Takes each event as (type, object); the type is None for what was there when the watch began."""

    def __init__(self, resources: Resources, children: Children, reconciler: Reconciler, queue: WorkQueue) -> None:
        self._resources = resources
        self._children = children
        self._reconciler = reconciler
        self._queue = queue

    def on_session(self, kind: str | None, session: Json) -> None:
        name = session["metadata"]["name"]
        if kind == DELETED:
            self._resources.drop(name, session["metadata"]["uid"])
        else:
            self._resources.put(session)
        self._queue.add(name)

    def on_class(self, kind: str | None, resource: Json) -> None:
        name = resource["metadata"]["name"]
        if kind == DELETED:
            self._resources.classes.drop(name)
        else:
            self._resources.classes.put(resource)
        self._queue.add(CLASS_KEY + name)
        for session in self._resources.all():
            if session.class_name == name and (kind == DELETED or session.status.get("phase") == "Failed"):
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

    def on_other_child(self, kind: str | None, child: Json) -> None:
        """A Service. What it says is nobody's to change; so only its loss is repaired at once."""
        session = names.session_of_child(child["metadata"]["name"])
        if session is not None and kind == DELETED:
            self._children.lost(session)
            self._queue.add(session)


def register(registry: kopf.OperatorRegistry, events: Events) -> None:
    """Have kopf feed ``events``."""
    _watch(registry, events.on_session, names.GROUP, names.VERSION, names.SESSIONS)
    _watch(registry, events.on_class, names.GROUP, names.VERSION, names.CLASSES)
    _watch(registry, events.on_deployment, "apps", "v1", "deployments")
    _watch(registry, events.on_other_child, "", "v1", "services")


def _watch(
    registry: kopf.OperatorRegistry, listener: Callable[[str | None, Json], None], group: str, version: str, plural: str
) -> None:
    async def handle(event: Any, **_: Any) -> None:
        listener(event["type"], event["object"])

    kopf.on.event(group, version, plural, registry=registry, id=f"{plural}")(handle)


def register_login(registry: kopf.OperatorRegistry) -> None:
    """In a pod by its service account, elsewhere by KUBECONFIG."""

    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)

    kopf.on.login(registry=registry)(login)


def settings() -> kopf.OperatorSettings:
    """Nothing is posted, scanned or peered: rights to one namespace are all that is needed."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True
    found.queueing.exit_timeout = 0.1  # seconds; the handlers only take notes, so nothing is lost with them
    for kind in ("deployments.v1.apps", "services.v1"):
        found.watching.label_selectors[kind] = names.MANAGED_SELECTOR
    return found
