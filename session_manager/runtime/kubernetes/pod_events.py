"""The Events of pods that say what a pod's status does not: pulls, and volumes that cannot be used.

They expire in the cluster after an hour or so.  Without the right to read them a start is only described less well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from session_manager.runtime.kubernetes.cluster import EVENTS, Cluster
from session_manager.runtime.kubernetes.steps import PodEvent, pod_event
from session_manager.runtime.kubernetes.watch import DELETED, Watch

# The usual steps of every start and stop, and what the status of the pod says itself: most of all Events.
_OTHERS = (
    "BackOff",
    "Created",
    "FailedScheduling",
    "Killing",
    "Pulled",
    "Scheduled",
    "Started",
    "SuccessfulAttachVolume",
    "Unhealthy",
)
_FIELDS = ",".join(["involvedObject.kind=Pod", *(f"reason!={reason}" for reason in _OTHERS)])


class PodEvents:
    """All such Events of the namespace, from one watch. Starts look at them at least once a second."""

    def __init__(self, cluster: Cluster) -> None:
        self.watch = Watch(cluster, EVENTS, pod_event, fields=_FIELDS)
        self.watch.listen(self._on_event)
        self._by_pod: dict[str, list[PodEvent]] = defaultdict(list)

    def of(self, pod: str) -> Sequence[PodEvent]:
        return self._by_pod.get(pod, ())

    def _on_event(self, kind: str, event: PodEvent) -> None:
        known = self._by_pod[event.pod]
        known[:] = [each for each in known if each.reason != event.reason]
        if kind != DELETED:
            known.append(event)
        if not known:
            del self._by_pod[event.pod]
