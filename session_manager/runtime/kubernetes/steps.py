"""Names the step that a start has reached: one word for programs, a few for people. No I/O.

What a pod's status does not say, its Events do: that an image is being pulled, that a volume cannot be attached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes.trouble import Trouble, own_container, sentence

API_BROKEN = "ApiBroken"

_EVENTS = {
    "FailedAttachVolume": ("VolumeNotAttached", "check the volume, and the node that still has it"),
    "FailedMount": ("VolumeNotMounted", "check the volume, and kubectl describe pod"),
    "FailedCreatePodSandBox": ("SandboxFailed", "check the network plugin and the RuntimeClass of the node"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """``hinders``: the start does not go on by itself, or not soon."""

    reason: str
    words: str
    hinders: bool = False

    @property
    def phase(self) -> str:
        """Return the phase that callers see."""
        return f"{self.reason}: {self.words}" if self.hinders else self.words


ASKING = Step("Starting", "asking the cluster for a pod")
NO_POD = Step("Starting", "waiting for the cluster to create the pod")
LOOKING = Step("Scheduling", "looking for a node")
GATED = Step("SchedulingGated", "waiting until its scheduling gates are removed")
CREATING = Step("Creating", "pulling the image and making the container")
RUNNING = Step("Starting", "starting the program")


@dataclass(frozen=True, slots=True)
class PodEvent:
    """An Event about a pod. ``at``: RFC 3339, the time of the last one."""

    pod: str
    reason: str
    message: str
    at: str
    warns: bool


def pod_event(event: Json) -> PodEvent:
    at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
    return PodEvent(
        event["involvedObject"].get("uid", ""),
        event.get("reason", ""),
        event.get("message", ""),
        at,
        event.get("type") == "Warning",
    )


def step_of_pod(pod: Json) -> Step:
    """Return the step as far as the pod itself knows it."""
    status = pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") != "True":
        return GATED if scheduled.get("reason") == "SchedulingGated" else LOOKING
    if "running" in (own_container(status) or {}).get("state", {}):
        return RUNNING
    initial = _running_init_container(pod)
    return CREATING if initial is None else Step("Initializing", f"running the init container {initial}")


def _running_init_container(pod: Json) -> str | None:
    """Return its name. A sidecar, which is an init container that is always restarted, holds nothing up."""
    specs = pod["spec"].get("initContainers", ())
    sidecars = {each["name"] for each in specs if each.get("restartPolicy") == "Always"}
    for container in pod["status"].get("initContainerStatuses", ()):
        if "running" in container.get("state", {}) and container["name"] not in sidecars:
            return str(container["name"])
    return None


def step_of(step: Step, trouble: Trouble | None, events: Sequence[PodEvent]) -> Step:
    """Return what a person should know now. ``step``, ``trouble``: of the pod; ``events``: of the same pod."""
    if trouble is not None:
        return Step(trouble.reason, trouble.remedy, hinders=True)
    latest = max(events, key=lambda event: event.at, default=None)
    if step is not CREATING or latest is None:
        return step
    if latest.reason == "Pulling":
        return Step("Pulling", f"{_lower(latest.message)} since {latest.at}")
    if not latest.warns:
        return step
    reason, helps = _EVENTS.get(latest.reason, (latest.reason, "see kubectl describe pod"))
    return Step(reason, sentence(latest.message, helps), hinders=True)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
