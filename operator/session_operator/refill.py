"""Decides when the pods that refill a warm pool may start.

The ReplicaSet of a pool creates a new pod the moment that one is claimed.  It would compete for the processor with the
first turn of the session that claimed, and in a burst of claims many would.  So each pod is created with a scheduling
gate, which is removed a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import PODS, ApiError, ApiInvalid, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.pods import Pods, PodView

log = logging.getLogger(__name__)

QUIET = 1.0  # seconds without a claim before pods may start
LATEST = 5.0  # seconds that a pod waits at most, however many claims there are
AT_ONCE = 10  # pods of one pool that are starting, including those that crash at the start
LOOK = 0.2  # seconds between checks while pods wait


def ungate_patch(pod: PodView) -> list[dict[str, object]]:
    """Return a patch that removes the gate. It fails as a whole if the gate is no longer there."""
    path = f"/spec/schedulingGates/{pod.gate}"
    return [{"op": "test", "path": f"{path}/name", "value": names.REFILL_GATE}, {"op": "remove", "path": path}]


class Refill:
    def __init__(self, cluster: Cluster, pods: Pods) -> None:
        self._cluster = cluster
        self._pods = pods
        self._gated_since: dict[str, float] = {}
        self._something = asyncio.Event()
        self._claimed_at = float("-inf")
        pods.listen(self._on_pod)

    def claimed(self) -> None:
        """A session claims a warm pod now."""
        self._claimed_at = asyncio.get_running_loop().time()

    @property
    def quiet(self) -> bool:
        """Return True if no session has claimed a warm pod lately."""
        return asyncio.get_running_loop().time() - self._claimed_at >= QUIET

    def _on_pod(self, pod: PodView, present: bool) -> None:
        if present and pod.gate is not None and not pod.leaving:
            self._gated_since.setdefault(pod.uid, asyncio.get_running_loop().time())
            self._something.set()
        else:
            self._gated_since.pop(pod.uid, None)

    async def run(self) -> None:
        """Let pods start until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._gated_since:
                for pod in self._startable():
                    await self._start(pod)
                await asyncio.sleep(LOOK)

    def _startable(self) -> Iterable[PodView]:
        """Yield the pods that may start now, as far as their pools have room; the longest waiting first."""
        now = asyncio.get_running_loop().time()
        starting = Counter(pod.warm for pod in self._pods.all() if _starts(pod))
        for uid, since in sorted(self._gated_since.items(), key=lambda each: each[1]):
            pod = self._pods.get(uid)
            if pod is None or pod.gate is None:
                self._gated_since.pop(uid, None)
            elif (self.quiet or now - since >= LATEST) and starting[pod.warm] < AT_ONCE:
                starting[pod.warm] += 1
                yield pod

    async def _start(self, pod: PodView) -> None:
        try:
            with suppress(ApiNotFound, ApiInvalid):  # it is gone, or its gate has been removed already
                self._pods.learn(await self._cluster.json_patch(PODS, pod.name, ungate_patch(pod), names.OPERATOR))
            self._gated_since.pop(pod.uid, None)
        except (ApiError, Unavailable) as error:
            log.warning("could not start a warm pod: %s", error, extra={"event": "warm.not_started"})


def _starts(pod: PodView) -> bool:
    return bool(pod.warm) and pod.alive and not pod.ready and pod.gate is None
