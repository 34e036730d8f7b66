"""The status of a Session: computed from facts, without I/O or a clock, and written after more urgent work.

Apart from its Deployment, the status is most of what a new session costs, and nothing waits for it.

=================  =========  ==========================  =======================
fact               phase      Ready                       Awake
=================  =========  ==========================  =======================
mode Suspended     Suspended  False Suspended             False Suspended
answers, no class  Awake      False ClassMissing          True  PodAnswers
a pod answers      Awake      True  PodAnswers            True  PodAnswers
class missing      Failed     False ClassMissing          False ClassMissing
class refused      Failed     False <its reason>          False <its reason>
start after fault  Waking     False <the fault's reason>  False <the step's reason>
start hindered     Waking     False <the step's reason>   False <the step's reason>
start in progress  Waking     True  WakesOnMessage        False <the step's reason>
start failed       Failed     False <its reason>          False <its reason>
woken before       Sleeping   True  WakesOnMessage        False Idle
otherwise          Created    True  WakesOnMessage        False NeverWoken
=================  =========  ==========================  =======================

The first line that applies is used.  If the class wants KEDA and the cluster does not serve it, a ``True`` Ready has
the reason ``KedaMissing``: the session works, but external pushes do not wake it.

A start that ends within ``SHOWN_AFTER`` seconds is never shown, so that a usual wake costs one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import SESSIONS, ApiConflict, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import Resources, SessionSpec, SessionView
from session_manager.runtime.kubernetes.steps import Step
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator.children import Children
from session_operator.conditions import ReasonAndMessage, condition
from session_operator.work_queue import NotYet, PutOff, WorkQueue

WRITERS = 2
LATEST = 5.0  # seconds that the first status of a session waits at most while other sessions lack their children
SHOWN_AFTER = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Facts:
    """``last_wake``: RFC 3339, or None if the session was never awake. ``pod``: the name of the pod that answers.

    ``step``: of the start in progress. ``refusal``: why the API server accepts no pod of the class. ``trouble``: why
    the last start failed.
    """

    mode: str = "Auto"
    class_found: bool = True
    class_name: str = ""
    refusal: Trouble | None = None
    step: Step | None = None
    trouble: Trouble | None = None
    pod: str | None = None
    last_wake: str | None = None
    keda_missing: bool = False
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: the phase, and why the session is or is not ready and awake."""

    phase: str
    ready: ReasonAndMessage
    awake: ReasonAndMessage
    works: bool = False


WAKES = ("WakesOnMessage", "The next message wakes the pod.")


def _line(facts: Facts) -> Line:
    if facts.mode == "Suspended":
        suspended = ("Suspended", "The mode is Suspended: queued messages wait until it is Auto or AlwaysOn.")
        return Line("Suspended", suspended, suspended)
    if facts.pod is not None:
        answers = ("PodAnswers", f"The pod {facts.pod} answers.")
        return Line("Awake", answers if facts.class_found else _class_missing(facts), answers, facts.class_found)
    if not facts.class_found:
        return Line("Failed", _class_missing(facts), _class_missing(facts))
    trouble = facts.refusal or (facts.trouble if facts.step is None else None)
    if trouble is not None:
        because = (trouble.reason, trouble.remedy)
        return Line("Failed", because, because)
    if facts.step is not None:
        return _waking(facts.step, facts.trouble)
    if facts.last_wake is not None:
        return Line("Sleeping", WAKES, ("Idle", "The session sleeps because it was idle."), works=True)
    return Line("Created", WAKES, ("NeverWoken", "The session has not received a message yet."), works=True)


def _class_missing(facts: Facts) -> ReasonAndMessage:
    lasts = "" if facts.pod is None else "The pod answers until the session sleeps, and no other can start: "
    message = f"{lasts}The SessionClass {facts.class_name} does not exist; create it, or delete the session."
    return "ClassMissing", message


def _waking(step: Step, before: Trouble | None) -> Line:
    now = (step.reason, f"The pod is starting: {step.words}.")
    if before is not None:
        return Line("Waking", (before.reason, f"The last start failed: {before.remedy}"), now)
    return Line("Waking", now if step.hinders else WAKES, now, works=not step.hinders)


def status_of(facts: Facts, previous: Json, now: str) -> Json:
    """Return the whole status. Conditions that are the same in ``previous`` keep their ``lastTransitionTime``."""
    line = _line(facts)
    ready = line.ready
    if line.works and facts.keda_missing:
        ready = ("KedaMissing", f"{ready[1]} KEDA is not installed: only the session manager wakes it.")
    awake = line.phase == "Awake"
    status: Json = {
        "phase": line.phase,
        "observedGeneration": facts.generation,
        "conditions": [
            condition("Ready", str(line.works), ready, facts.generation, previous, now),
            condition("Awake", str(awake), line.awake, facts.generation, previous, now),
        ],
    }
    if facts.last_wake is not None:
        status["lastWakeTime"] = facts.last_wake
    if awake:
        status["podName"] = facts.pod
    return status


@dataclass(slots=True, eq=False)
class Statuses:
    """``queue`` takes the sessions whose status may have changed.

    ``busy`` returns True while the children of some sessions have yet to be written. ``refusal_of`` returns why the API
    server refuses a class. ``on_written`` are called with a Session, its status before and its status now.
    """

    cluster: Cluster
    resources: Resources
    children: Children
    answering: Answering
    busy: Callable[[], bool]
    refusal_of: Callable[[str], Trouble | None]
    on_written: list[Callable[[SessionView, Json, Json], None]] = field(default_factory=list)
    queue: WorkQueue = field(init=False)
    put_off: PutOff = field(default_factory=lambda: PutOff(LATEST))

    def __post_init__(self) -> None:
        self.queue = WorkQueue(self._write, WRITERS)

    async def _write(self, session: str) -> None:
        view = await self.resources.find(session)
        self.put_off.wait(session, while_=view is not None and not view.status and self.busy())
        if view is None:
            return
        self._wait_for_quick_start(session)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = status_of(self._facts(view, now), view.status, now)
        if status == view.status:
            return
        gone = dict.fromkeys(view.status.keys() - status.keys())
        patch: Json = {"metadata": {"uid": view.uid}, "status": {**gone, **status}}
        with suppress(ApiNotFound, ApiConflict):  # a newer Session has this name, and its event will come
            self.resources.learn(await self.cluster.merge_patch(SESSIONS, session, patch, names.OPERATOR, "status"))
            for listener in self.on_written:
                listener(view, view.status, status)

    def _wait_for_quick_start(self, session: str) -> None:
        start = self.answering.start_of(session)
        if start is not None and not start.step.hinders:
            left = start.since + SHOWN_AFTER - asyncio.get_running_loop().time()
            if left > 0:
                raise NotYet(left)

    def _facts(self, view: SessionView, now: str) -> Facts:
        spec: SessionSpec | None = None
        with suppress(InvalidInput):
            spec = self.resources.spec(view)
        pod, start = self.answering.of_session(view.uuid), self.answering.start_of(view.uuid)
        last_wake = view.status.get("lastWakeTime")
        if pod is not None and view.status.get("podName") != pod.name:
            last_wake = now
        return Facts(
            mode=view.mode,
            class_found=spec is not None,
            class_name=view.class_name,
            refusal=self.refusal_of(view.class_name),
            step=None if start is None else start.step,
            trouble=self.answering.troubles.get(view.uuid),
            pod=None if pod is None else pod.name,
            last_wake=last_wake,
            keda_missing=spec is not None and self.children.lacks_keda(spec),
            generation=view.generation,
        )
