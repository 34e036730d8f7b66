"""Reads from cluster objects why a pod does not start. No I/O.

``final`` trouble fails the start at once.  Other trouble may pass by itself (a node is added, a pull succeeds): the
start waits for that until its time is over, and then fails with the last trouble that it saw.
"""

from __future__ import annotations

from dataclasses import dataclass

from session_manager.domain.values import Json

MAX_WORDS = 300

# Reasons of a waiting container: (our reason, the remedy, final). ErrImagePull is the first try, before any back-off.
_WAITING: dict[str, tuple[str, str, bool]] = {
    "ErrImagePull": ("ImagePullFailed", "check the image's name and its pull secrets", False),
    "ImagePullBackOff": ("ImagePullFailed", "check the image's name and its pull secrets", True),
    "ErrImageNeverPull": ("ImageMissing", "load the image onto the node, or allow pulling it", True),
    "InvalidImageName": ("ImageNameInvalid", "fix the image name in the SessionClass", True),
    "RegistryUnavailable": ("ImagePullFailed", "check that the nodes reach the registry", False),
    "ImageInspectError": ("ImageBroken", "build and push the image again", True),
    "CreateContainerConfigError": ("ConfigMissing", "create the Secret or key that the SessionClass names", True),
    "CreateContainerError": ("CannotCreateContainer", "check the command and the image of the SessionClass", True),
    "RunContainerError": ("CommandNotRunnable", "check the command and the image of the SessionClass", True),
    "StartError": ("CommandNotRunnable", "check the command and the image of the SessionClass", True),
}

# Messages of the API server when it rejects a pod: (part of the message, our reason, the remedy).
_REFUSALS = (
    ("exceeded quota", "QuotaExceeded", "raise the ResourceQuota of the namespace, or let sessions sleep sooner"),
    (
        "violates PodSecurity",
        "PodSecurityRefused",
        "set the namespace to the level restricted, without a stricter policy",
    ),
    ("LimitRange", "ResourcesRefused", "set resources in the SessionClass to what the LimitRange allows"),
    ("maximum ", "ResourcesRefused", "set resources in the SessionClass to what the LimitRange allows"),
    ("minimum ", "ResourcesRefused", "set resources in the SessionClass to what the LimitRange allows"),
    ("no PriorityClass", "PriorityClassMissing", "create the PriorityClass that the SessionClass names"),
    ("RuntimeClass", "RuntimeClassMissing", "create the RuntimeClass that the SessionClass names"),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """The cause of a failed start: ``reason`` for programs, ``remedy`` for people. ``final``: waiting cannot help."""

    reason: str
    remedy: str
    final: bool = True


def trouble_of_pod(pod: Json) -> Trouble | None:
    """Return the reason why the pod does not run, or None if nothing is wrong with it."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses", ()):
        found = _trouble_of_container(container)
        if found is not None:
            return found
    if status.get("phase") == "Failed":
        words = status.get("message") or "the node gave no reason"
        return Trouble(status.get("reason") or "PodFailed", _sentence(words, "the next try may run on another node"))
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            helps = "add a node, or ask for less in the SessionClass"
            return Trouble("Unschedulable", _sentence(condition.get("message", ""), helps), final=False)
    return None


def _trouble_of_container(container: Json) -> Trouble | None:
    state = container.get("state", {})
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    waiting = state.get("waiting", {})
    known = _WAITING.get(waiting.get("reason", ""))
    if ended is not None and ended.get("reason") in _WAITING:
        known = _WAITING[ended["reason"]]
        waiting = ended
    if known is not None:
        reason, helps, final = known
        return Trouble(reason, _sentence(waiting.get("message", ""), helps), final)
    return None if ended is None else Trouble("CrashedAtStart", _crash(ended))


def _crash(ended: Json) -> str:
    if ended.get("reason") == "OOMKilled":
        return "the container used more memory than its limit; raise resources.limits.memory in the SessionClass"
    how = f"killed by signal {ended['signal']}" if ended.get("signal") else f"exit code {ended.get('exitCode')}"
    return _sentence(f"the container ended with {how}", "read its output with kubectl logs, or session-manager logs")


def trouble_of_deployment(deployment: Json) -> Trouble | None:
    """Return the reason why no pod is created, such as a quota or a policy, or None."""
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message = condition.get("message", "")
            for part, reason, helps in _REFUSALS:
                if part in message:
                    return Trouble(reason, _sentence(message, helps))
            return Trouble("PodRefused", _sentence(message, "fix what the message names"))
    return None


def _sentence(message: str, helps: str) -> str:
    words = " ".join(message.split()).rstrip(".")
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS - 1] + "…"
    return f"{words}; {helps}" if words else helps
