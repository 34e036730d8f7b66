"""Reads from cluster objects, and from refusals of the API server, why a pod does not start. No I/O.

Only our own container decides: others may be injected before or after it, and may restart or end.  Their trouble is
shown, but it never ends a start by itself.

``final`` trouble fails the start at once.  Other trouble may pass by itself (a node is added, a pull succeeds): the
start waits for that until its time is over, and then fails with the last trouble that it saw.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import ApiError

MAX_WORDS = 300
MAX_LINE = 200  # characters of output in an error

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

# Messages of the API server when it rejects an object: (part of the message, our reason, the remedy).
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
    ("is being terminated", "NamespaceEnds", "the namespace is being deleted; use another one"),
    ('" cannot ', "RightsMissing", "give this right to the operator's ServiceAccount, as the Role of the chart does"),
)
_VOLUME_WORDS = ("PersistentVolumeClaim", "persistentvolumeclaim", "volume")


@dataclass(frozen=True, slots=True)
class Trouble:
    """The cause of a failed start: ``reason`` for programs, ``remedy`` for people. ``final``: waiting cannot help."""

    reason: str
    remedy: str
    final: bool = True


def trouble_of_pod(pod: Json) -> Trouble | None:
    """Return the reason why the pod does not run, or None if nothing is wrong with it."""
    status = pod.get("status", {})
    own = own_container(status)
    found = None if own is None else _trouble_of_container(own)
    if found is not None:
        return found
    if status.get("phase") == "Failed":
        words = status.get("message") or "the node gave no reason"
        return Trouble(status.get("reason") or "PodFailed", sentence(words, "the next try may run on another node"))
    return _trouble_of_scheduling(status) or _trouble_of_company(status)


def own_container(status: Json) -> Json | None:
    """Return the status of our container. Other programs may have injected more of them."""
    containers = status.get("containerStatuses", ())
    return next((each for each in containers if each["name"] == names.CONTAINER), None)


def _trouble_of_scheduling(status: Json) -> Trouble | None:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            if condition.get("reason") == "SchedulingGated":
                return None
            message = condition.get("message", "")
            if any(word in message for word in _VOLUME_WORDS):
                helps = "check the storage of the SessionClass, and kubectl describe pvc"
                return Trouble("VolumePending", sentence(message, helps), final=False)
            helps = "add a node, or ask for less in the SessionClass"
            return Trouble("Unschedulable", sentence(message, helps), final=False)
    return None


def _trouble_of_company(status: Json) -> Trouble | None:
    """Return the trouble of an init container or sidecar. It may pass, since the kubelet restarts these."""
    company = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in company:
        if container["name"] == names.CONTAINER or _works(container):
            continue
        found = _trouble_of_container(container)
        if found is not None:
            words = f"container {container['name']}: {found.remedy}"
            return Trouble("SidecarFailed", words, final=False)
    return None


def _works(container: Json) -> bool:
    """Return True if the container runs or has completed."""
    state = container.get("state", {})
    return "running" in state or state.get("terminated", {}).get("exitCode") == 0


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
        return Trouble(reason, sentence(waiting.get("message", ""), helps), final)
    return None if ended is None else Trouble("CrashedAtStart", _crash(ended))


def _crash(ended: Json) -> str:
    if ended.get("reason") == "OOMKilled":
        return "the container used more memory than its limit; raise resources.limits.memory in the SessionClass"
    words = last_words(ended)
    output = f"; last output: {words}" if words else ""
    helps = "read its output with kubectl logs, or session-manager logs"
    return sentence(f"the container ended with {how_it_ended(ended)}{output}", helps)


def how_it_ended(ended: Json) -> str:
    """Return the exit code or the signal of a container that ended, or the kubelet's own reason."""
    reason, code = ended.get("reason"), ended.get("exitCode", 0)
    if reason == "OOMKilled":
        return "OOMKilled: it used more memory than its limit"
    if reason not in (None, "Error", "Completed"):
        return f"{reason} (exit code {code})"
    number = ended.get("signal") or (code - 128 if 128 < code < 192 else 0)  # as shells report signals
    with suppress(ValueError):
        return f"{signal.Signals(number).name} (exit code {code})"
    return f"exit code {code}"


def last_words(ended: Json) -> str:
    """Return the last line that a container printed before it ended, or "". The kubelet reports it after an error."""
    lines = [line for line in map(str.strip, ended.get("message", "").split("\n")) if line]
    return lines[-1][:MAX_LINE] if lines else ""


def trouble_of_deployment(deployment: Json) -> Trouble | None:
    """Return the reason why no pod is created, such as a quota or a policy, or None."""
    for condition in deployment.get("status", {}).get("conditions", ()):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            message = condition.get("message", "")
            return _refusal(message) or Trouble("PodRefused", sentence(message, "fix what the message names"))
    return None


def trouble_of_refusal(error: ApiError) -> Trouble:
    """Return the reason why the API server accepts no Deployment, Service or volume of a class."""
    found = _refusal(error.message) if error.status == 403 else None
    words = error.message or f"{error.status} {error.reason}"
    return found or Trouble("ClassInvalid", sentence(words, "fix the SessionClass, or the policy that refuses it"))


def _refusal(message: str) -> Trouble | None:
    for part, reason, helps in _REFUSALS:
        if part in message:
            return Trouble(reason, sentence(message, helps))
    return None


def sentence(message: str, helps: str) -> str:
    """Return the message, cut if it is long, and what helps."""
    words = " ".join(message.split()).rstrip(".")
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS - 1] + "…"
    return f"{words}; {helps}" if words else helps
