"""Computes the status of a Session from facts. No I/O, no clock.

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

from dataclasses import dataclass

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes.trouble import Trouble

READY = "Ready"
AWAKE = "Awake"


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


@dataclass(frozen=True, slots=True)
class _Line:
    phase: str
    ready: bool
    ready_reason: str
    ready_message: str
    awake_reason: str
    awake_message: str


_WAKES = ("WakesOnMessage", "The next message wakes the pod.")


def _line(facts: Facts) -> _Line:
    if facts.mode == "Suspended":
        message = "The mode is Suspended: queued messages wait until it is Auto or AlwaysOn."
        return _Line("Suspended", False, "Suspended", message, "Suspended", message)
    if not facts.class_found:
        message = f"The SessionClass {facts.class_name} does not exist; create it, or delete the session."
        return _Line("Failed", False, "ClassMissing", message, "ClassMissing", message)
    if facts.trouble is not None:
        reason, remedy = facts.trouble.reason, facts.trouble.remedy
        return _Line("Failed", False, reason, remedy, reason, remedy)
    if facts.pod is not None:
        message = f"The pod {facts.pod} answers."
        return _Line("Awake", True, "PodAnswers", message, "PodAnswers", message)
    if facts.last_wake is not None:
        return _Line("Sleeping", True, *_WAKES, "Idle", "The session sleeps because it was idle.")
    return _Line("Created", True, *_WAKES, "NeverWoken", "The session has not received a message yet.")


def status_of(facts: Facts, previous: Json, now: str) -> Json:
    """Return the whole status. Conditions that are the same in ``previous`` keep their ``lastTransitionTime``."""
    line = _line(facts)
    ready_reason, ready_message = line.ready_reason, line.ready_message
    if line.ready and facts.keda_missing:
        ready_reason = "KedaMissing"
        ready_message += " KEDA is not installed: only the session manager wakes it."
    awake = line.phase == "Awake"
    status: Json = {
        "phase": line.phase,
        "observedGeneration": facts.generation,
        "conditions": [
            _condition(READY, line.ready, ready_reason, ready_message, facts, previous, now),
            _condition(AWAKE, awake, line.awake_reason, line.awake_message, facts, previous, now),
        ],
    }
    if facts.last_wake is not None:
        status["lastWakeTime"] = facts.last_wake
    if awake:
        status["podName"] = facts.pod
    return status


def _condition(kind: str, holds: bool, reason: str, message: str, facts: Facts, previous: Json, now: str) -> Json:
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
        "observedGeneration": facts.generation,
        "lastTransitionTime": since,
    }
