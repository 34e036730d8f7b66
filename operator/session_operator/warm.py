"""Warm pods: ready pods without a session, given to the next session that wakes.

A claim is one JSON patch that tests for the pool's label, removes it and makes the Session the pod's controller.  So of
two claims of one pod only one succeeds, the pool's ReplicaSet releases the pod and starts another, and the pod is never
without a controller.  Before it claims, a wake asks the API, not a cache, which pods the Session controls already: that
is how a restarted operator finds the pod that it claimed before it was killed.

The ReplicaSet of a pool creates a new pod the moment that one is claimed.  It would compete for the processor with the
first turn of the session that claimed, and in a burst of claims many would.  So each pod is created with a scheduling
gate, which is removed a moment later.

A session that finds no ready pod claims one that is starting, or else one behind its gate, and removes the gate in the
same patch.  So it never waits longer than for a pod of its own, and no other gate is removed until its pod is ready.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    DEPLOYMENTS,
    PODS,
    ApiConflict,
    ApiError,
    ApiInvalid,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_operator import manifests

log = logging.getLogger(__name__)

QUIET = 1.0  # seconds without a claim before pods may start
LATEST = 5.0  # seconds that a pod waits at most, however many claims there are
OVERFLOW_LATEST = 30.0  # seconds for which the start of a session that found no ready pod goes first
AT_ONCE = 10  # pods of one pool that are starting, including those that crash at the start
LOOK = 0.2  # seconds between checks while pods wait


def _pointer(label: str) -> str:
    return "/metadata/labels/" + label.replace("~", "~0").replace("/", "~1")


def _may_start(pod: PodView) -> bool:
    return pod.trouble is None or not pod.trouble.final


def claim_patch(session: SessionSpec, gate: int | None = None) -> list[Json]:
    """Return a patch that claims the pod. It fails as a whole if the pod has left the pool.

    ``gate``: the index of the pod's gate, which is removed.
    """
    labels = session.labels
    return [
        *([] if gate is None else gate_patch(gate)),
        {"op": "test", "path": _pointer(names.WARM_LABEL), "value": session.class_spec.name},
        {"op": "remove", "path": _pointer(names.WARM_LABEL)},
        *({"op": "add", "path": _pointer(label), "value": value} for label, value in labels.items()),
        {"op": "add", "path": "/metadata/ownerReferences", "value": [manifests.owned_by(session)]},
    ]


def gate_patch(gate: int) -> list[Json]:
    """Return a patch that removes the gate at this index. It fails if the gate is gone."""
    path = f"/spec/schedulingGates/{gate}"
    return [
        {"op": "test", "path": f"{path}/name", "value": names.REFILL_GATE},
        {"op": "remove", "path": path},
    ]


@dataclass(slots=True, eq=False)
class WarmPods:
    """``claiming``: UIDs of the pods that wakes are claiming now. ``claimed_at``: when a wake last claimed one.

    ``gated_since``: when the pods that may not start yet, by UID, were first seen. ``overflow``: since when the
    sessions that found no ready pod have been starting.
    """

    cluster: Cluster
    pods: Pods
    claiming: set[str] = field(default_factory=set)
    claimed_at: float = float("-inf")
    gated_since: dict[str, float] = field(default_factory=dict)
    overflow: dict[str, float] = field(default_factory=dict)
    something: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.pods.listen(self._on_pod)

    def claimed(self) -> None:
        self.claimed_at = asyncio.get_running_loop().time()

    @property
    def quiet(self) -> bool:
        """Return True if no session has claimed a warm pod lately."""
        return asyncio.get_running_loop().time() - self.claimed_at >= QUIET

    def _on_pod(self, pod: PodView, present: bool) -> None:
        if pod.session and (pod.ready or not pod.alive or not present):
            self.overflow.pop(pod.session, None)
        if present and pod.gate is not None and not pod.leaving:
            self.gated_since.setdefault(pod.uid, asyncio.get_running_loop().time())
            self.something.set()
        else:
            self.gated_since.pop(pod.uid, None)

    async def claim(self, session: SessionSpec) -> PodView | None:
        """Claim the pod of the pool that will answer first. Return None if the pool is empty."""
        self.claimed()
        owned = await self._owned(session)
        if owned:
            for surplus in owned[1:]:
                await self.cluster.delete(PODS, surplus.name, uid=surplus.uid, version=surplus.version)
            return owned[0]
        wanted = manifests.spec_hash(manifests.warm_template(session.class_spec))
        tried: set[str] = set()
        while pod := self._next(session.class_spec.name, wanted, tried):
            tried.add(pod.uid)
            self.claiming.add(pod.uid)
            try:
                patch = claim_patch(session, pod.gate)
                found = await self.cluster.json_patch(PODS, pod.name, patch, names.SCALER)
            except (ApiInvalid, ApiNotFound, ApiConflict):
                continue
            finally:
                self.claiming.discard(pod.uid)
            self._overflows(session, ready=pod.ready)
            return self.pods.learn(found)
        self._overflows(session, ready=False)
        return None

    def _overflows(self, session: SessionSpec, *, ready: bool) -> None:
        if not ready:
            self.overflow[session.uuid] = asyncio.get_running_loop().time()

    def _next(self, class_name: str, wanted: str, tried: set[str]) -> PodView | None:
        """Pick a pod that no other wake here is claiming: ready, else starting for the longest time, else gated."""
        passed = tried | self.claiming
        fit = [
            pod
            for pod in self.pods.of_pool(class_name)
            if pod.alive and pod.spec_hash == wanted and pod.uid not in passed and _may_start(pod)
        ]
        ready = [pod for pod in fit if pod.ready]
        if ready:
            return random.choice(ready)  # another operator rarely picks the same one
        return min(fit, key=lambda pod: (pod.gate is not None, pod.created, pod.name), default=None)

    async def _owned(self, session: SessionSpec) -> list[PodView]:
        items, _ = await self.cluster.list(PODS, f"{names.SESSION_LABEL}={session.uuid}")
        found = [self.pods.learn(item) for item in items]
        return sorted((pod for pod in found if pod.claimed and pod.alive), key=lambda pod: (pod.created, pod.name))

    async def keep_pool(self, class_spec: ClassSpec) -> None:
        """Keep the pool at the size of the class. Its Deployment refills it, and backs off from pods that crash."""
        name = names.warm_name(class_spec.name)
        if class_spec.warm > 0 and class_spec.uid and not class_spec.refusal:
            await self.cluster.apply(DEPLOYMENTS, manifests.warm_deployment(class_spec), names.OPERATOR)
            return
        with suppress(ApiNotFound):
            found = await self.cluster.get(DEPLOYMENTS, name)
            await self.cluster.delete(DEPLOYMENTS, name, uid=found["metadata"]["uid"])

    # -- refill -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let the pods that refill the pools start, until cancelled."""
        while True:
            await self.something.wait()
            self.something.clear()
            while self.gated_since:
                for pod in self._startable():
                    await self._start(pod)
                await asyncio.sleep(LOOK)

    def _startable(self) -> Iterable[PodView]:
        """Yield the pods that may start now, as far as their pools have room; the longest waiting first."""
        now = asyncio.get_running_loop().time()
        pods = self.pods.by_uid.values()
        starting = Counter(pod.warm for pod in pods if pod.alive and not pod.ready and pod.gate is None)
        for uid, since in sorted(self.gated_since.items(), key=lambda each: each[1]):
            pod = self.pods.get(uid)
            if pod is None or pod.gate is None:
                self.gated_since.pop(uid, None)
            elif self._may_refill(now, since) and starting[pod.warm] < AT_ONCE:
                starting[pod.warm] += 1
                yield pod

    def _may_refill(self, now: float, since: float) -> bool:
        """Return True if a pod that has been gated ``since`` then may start."""
        for session in [session for session, began in self.overflow.items() if now - began >= OVERFLOW_LATEST]:
            del self.overflow[session]
        return not self.overflow and (self.quiet or now - since >= LATEST)

    async def _start(self, pod: PodView) -> None:
        if pod.gate is None:
            return
        patch = gate_patch(pod.gate)
        try:
            with suppress(ApiNotFound, ApiInvalid):  # it is gone, or its gate has been removed already
                self.pods.learn(await self.cluster.json_patch(PODS, pod.name, patch, names.OPERATOR))
            self.gated_since.pop(pod.uid, None)
        except (ApiError, Unavailable) as error:
            log.warning("could not start a warm pod: %s", error, extra={"event": "warm.not_started"})
