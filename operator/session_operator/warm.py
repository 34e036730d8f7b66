"""Warm pods: ready pods without a session, given to the next session that wakes.

A claim is one JSON patch that tests for the pool's label, removes it and makes the Session the pod's controller.  So of
two claims of one pod only one succeeds, the pool's ReplicaSet releases the pod and starts another, and the pod is never
without a controller.  Before it claims, a wake asks the API, not a cache, which pods the Session controls already: that
is how a restarted operator finds the pod that it claimed before it was killed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    DEPLOYMENTS,
    PODS,
    ApiConflict,
    ApiInvalid,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_operator import manifests
from session_operator.refill import Refill


def _pointer(label: str) -> str:
    return "/metadata/labels/" + label.replace("~", "~0").replace("/", "~1")


def claim_patch(session: SessionSpec) -> list[Json]:
    """Return a patch that claims the pod. It fails as a whole if the pod has left the pool."""
    labels = session.labels
    return [
        {"op": "test", "path": _pointer(names.WARM_LABEL), "value": session.class_spec.name},
        {"op": "remove", "path": _pointer(names.WARM_LABEL)},
        *({"op": "add", "path": _pointer(label), "value": value} for label, value in labels.items()),
        {"op": "add", "path": "/metadata/ownerReferences", "value": [manifests.owner_of(session).reference()]},
    ]


class WarmPods:
    def __init__(self, cluster: Cluster, pods: Pods, refill: Refill) -> None:
        self._cluster = cluster
        self._pods = pods
        self._refill = refill
        self._claiming: set[str] = set()

    @property
    def quiet(self) -> bool:
        """Return True if no session has claimed a warm pod lately."""
        return self._refill.quiet

    async def claim(self, session: SessionSpec) -> PodView | None:
        """Claim a ready pod for the session. Return None if none is left."""
        self._refill.claimed()
        owned = await self._owned(session)
        if owned:
            await self._end(owned[1:])
            return owned[0]
        wanted = manifests.spec_hash(manifests.warm_template(session.class_spec))
        tried: set[str] = set()
        while pod := self._next(session.class_spec.name, wanted, tried):
            tried.add(pod.uid)
            self._claiming.add(pod.uid)
            try:
                found = await self._cluster.json_patch(PODS, pod.name, claim_patch(session), names.SCALER)
            except (ApiInvalid, ApiNotFound, ApiConflict):
                continue
            finally:
                self._claiming.discard(pod.uid)
            return self._pods.learn(found)
        return None

    def _next(self, class_name: str, wanted: str, tried: set[str]) -> PodView | None:
        """Pick a ready pod that no other wake here is claiming. Another operator rarely picks the same one."""
        passed = tried | self._claiming
        ready = [pod for pod in self._pods.of_pool(class_name) if pod.uid not in passed and _usable(pod, wanted)]
        return random.choice(ready) if ready else None

    async def _owned(self, session: SessionSpec) -> list[PodView]:
        items, _ = await self._cluster.list(PODS, f"{names.SESSION_LABEL}={session.uuid}")
        found = [self._pods.learn(item) for item in items]
        alive = [pod for pod in found if pod.claimed and not pod.leaving and not pod.ended]
        return sorted(alive, key=lambda pod: (pod.created, pod.name))

    async def _end(self, pods: Sequence[PodView]) -> None:
        for pod in pods:
            await self._cluster.delete(PODS, pod.name, uid=pod.uid, version=pod.version)

    async def keep_pool(self, class_spec: ClassSpec) -> None:
        """Keep the pool at the size of the class. Its Deployment refills it, and backs off from pods that crash."""
        name = names.warm_name(class_spec.name)
        if class_spec.warm > 0 and class_spec.uid:
            await self._cluster.apply(DEPLOYMENTS, manifests.warm_deployment(class_spec), names.OPERATOR)
            return
        try:
            found = await self._cluster.get(DEPLOYMENTS, name)
        except ApiNotFound:
            return
        await self._cluster.delete(DEPLOYMENTS, name, uid=found["metadata"]["uid"])


def _usable(pod: PodView, spec_hash: str) -> bool:
    return pod.ready and not pod.leaving and not pod.ended and pod.spec_hash == spec_hash
