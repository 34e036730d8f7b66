"""Warm pods: ready ones that know no session, given to the next that wakes.

The claim is one JSON patch that tests the pool's label, takes it off and makes the Session the pod's controller: of two
who want the same pod one gets it, the pool's ReplicaSet lets it go and starts another, and at no moment does the pod
belong to nobody.  Before it claims, a wake asks the API, not a cache, which pods its Session controls already: so an
operator that was killed after a claim finds it again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

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
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_operator import manifests
from session_operator.manifests import SessionSpec
from session_operator.refill import Refill

Json = dict[str, Any]


def _pointer(label: str) -> str:
    return "/metadata/labels/" + label.replace("~", "~0").replace("/", "~1")


def claim_patch(session: SessionSpec) -> list[Json]:
    """Fails as a whole when the pod is not in the pool any more."""
    labels = session.labels
    return [
        {"op": "test", "path": _pointer(names.WARM_LABEL), "value": session.class_spec.name},
        {"op": "remove", "path": _pointer(names.WARM_LABEL)},
        *({"op": "add", "path": _pointer(label), "value": value} for label, value in labels.items()),
        {"op": "add", "path": "/metadata/ownerReferences", "value": [session.owner.reference()]},
    ]


class WarmPods:
    def __init__(self, cluster: Cluster, pods: Pods, refill: Refill) -> None:
        self._cluster = cluster
        self._pods = pods
        self._refill = refill
        self._claiming: set[str] = set()

    @property
    def quiet(self) -> bool:
        """Nobody has reached for a warm pod lately."""
        return self._refill.quiet

    async def claim(self, session: SessionSpec) -> PodView | None:
        """A ready pod for the session; None when the class keeps none or none is left."""
        if session.class_spec.warm == 0:
            return None
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
        """A ready pod that no other wake reaches for; another operator, which may, rarely picks the same."""
        passed = tried | self._claiming
        ready = [pod for pod in self._pods.of_pool(class_name) if pod.uid not in passed and _fit(pod, wanted)]
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
        """The pool has the size that the class says; its Deployment refills it, and backs off from pods that crash."""
        name = names.warm_name(class_spec.name)
        if class_spec.warm > 0 and class_spec.uid:
            await self._cluster.apply(DEPLOYMENTS, manifests.warm_deployment(class_spec), names.OPERATOR)
            return
        try:
            found = await self._cluster.get(DEPLOYMENTS, name)
        except ApiNotFound:
            return
        await self._cluster.delete(DEPLOYMENTS, name, uid=found["metadata"]["uid"])


def _fit(pod: PodView, spec_hash: str) -> bool:
    return pod.ready and not pod.leaving and not pod.ended and pod.spec_hash == spec_hash
