"""The status of a Session: computed from facts, without I/O or a clock, and written after more urgent work.

Apart from its Deployment, the status is most of what a new session costs, and nothing waits for it.

===============  =========  =======================  ===================
fact             phase      Ready                    Awake
===============  =========  =======================  ===================
mode Suspended   Suspended  False Suspended          False Suspended
class missing    Failed     False ClassMissing       False ClassMissing
start failed     Failed     False <its reason>       False <its reason>
a pod answers    Awake      True  PodAnswers         True  PodAnswers
woken before     Sleeping   True  WakesOnMessage     False Idle
otherwise        Created    True  WakesOnMessage     False NeverWoken
===============  =========  =======================  ===================

The first line that applies is used.  If the class wants KEDA and the cluster does not serve it, a ``True`` Ready has
the reason ``KedaMissing``: the session works, but external pushes do not wake it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import SESSIONS, ApiConflict, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import CLASS_INVALID, Resources, SessionSpec, SessionView
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator.children import Children
from session_operator.work_queue import PutOff, WorkQueue

WRITERS = 2
LATEST = 5.0  # seconds that the first status of a session waits at most while other sessions lack their children


@dataclass(frozen=True, slots=True)
class Facts:
    """``last_wake``: RFC 3339, or None if the session was never awake. ``pod``: the name of the pod that answers."""

    mode: str = "Auto"
    class_found: bool = True
    class_name: str = ""
    trouble: Trouble | None = None
    pod: str | None = None
    last_wake: str | None = None
    keda_missing: bool = False
    generation: int = 0


ReasonAndMessage = tuple[str, str]


def _refused(spec: SessionSpec | None) -> Trouble | None:
    refusal = "" if spec is None else spec.class_spec.refusal
    return Trouble(CLASS_INVALID, refusal) if refusal else None


def _line(facts: Facts) -> tuple[str, ReasonAndMessage, ReasonAndMessage]:
    """Return the phase, and why the session is or is not Ready and Awake."""
    if facts.mode == "Suspended":
        suspended = ("Suspended", "The mode is Suspended: queued messages wait until it is Auto or AlwaysOn.")
        return "Suspended", suspended, suspended
    if not facts.class_found:
        message = f"The SessionClass {facts.class_name} does not exist; create it, or delete the session."
        return "Failed", ("ClassMissing", message), ("ClassMissing", message)
    if facts.trouble is not None:
        trouble = (facts.trouble.reason, facts.trouble.remedy)
        return "Failed", trouble, trouble
    if facts.pod is not None:
        answers = ("PodAnswers", f"The pod {facts.pod} answers.")
        return "Awake", answers, answers
    wakes = ("WakesOnMessage", "The next message wakes the pod.")
    if facts.last_wake is not None:
        return "Sleeping", wakes, ("Idle", "The session sleeps because it was idle.")
    return "Created", wakes, ("NeverWoken", "The session has not received a message yet.")


def status_of(facts: Facts, previous: Json, now: str) -> Json:
    """Return the whole status. Conditions that are the same in ``previous`` keep their ``lastTransitionTime``."""
    phase, ready, awake = _line(facts)
    works = phase not in {"Suspended", "Failed"}
    if works and facts.keda_missing:
        ready = ("KedaMissing", f"{ready[1]} KEDA is not installed: only the session manager wakes it.")
    status: Json = {
        "phase": phase,
        "observedGeneration": facts.generation,
        "conditions": [
            _condition("Ready", works, ready, facts.generation, previous, now),
            _condition("Awake", phase == "Awake", awake, facts.generation, previous, now),
        ],
    }
    if facts.last_wake is not None:
        status["lastWakeTime"] = facts.last_wake
    if phase == "Awake":
        status["podName"] = facts.pod
    return status


def _condition(kind: str, holds: bool, because: ReasonAndMessage, generation: int, previous: Json, now: str) -> Json:
    reason, message = because
    status = "True" if holds else "False"
    since = now
    for before in previous.get("conditions", ()):
        if before.get("type") == kind and before.get("status") == status:
            since = before["lastTransitionTime"]
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


@dataclass(slots=True, eq=False)
class Statuses:
    """``queue`` takes the sessions whose status may have changed.

    ``busy`` returns True while the children of some sessions have yet to be written.
    """

    cluster: Cluster
    resources: Resources
    children: Children
    answering: Answering
    busy: Callable[[], bool]
    queue: WorkQueue = field(init=False)
    put_off: PutOff = field(default_factory=lambda: PutOff(LATEST))

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self._write, WRITERS)

    async def _write(self, session: str) -> None:
        view = await self.resources.find(session)
        self.put_off.wait(session, while_=view is not None and not view.status and self.busy())
        if view is None:
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = status_of(self._facts(view, now), view.status, now)
        if status == view.status:
            return
        gone = dict.fromkeys(view.status.keys() - status.keys())
        patch: Json = {"metadata": {"uid": view.uid}, "status": {**gone, **status}}
        with suppress(ApiNotFound, ApiConflict):  # a newer Session has this name, and its event will come
            await self.cluster.merge_patch(SESSIONS, session, patch, names.OPERATOR, "status")

    def _facts(self, view: SessionView, now: str) -> Facts:
        spec: SessionSpec | None = None
        with suppress(InvalidInput):
            spec = self.resources.spec(view)
        pod = self.answering.of_session(view.uuid)
        last_wake = view.status.get("lastWakeTime")
        if pod is not None and view.status.get("podName") != pod.name:
            last_wake = now
        return Facts(
            mode=view.mode,
            class_found=spec is not None,
            class_name=view.class_name,
            trouble=self.answering.troubles.get(view.uuid) or (_refused(spec) if pod is None else None),
            pod=None if pod is None else pod.name,
            last_wake=last_wake,
            keda_missing=spec is not None and self.children.lacks_keda(spec),
            generation=view.generation,
        )
