"""The trouble of pods, as the kubelet and the controllers of a real cluster report it."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.runtime.kubernetes.trouble import MAX_WORDS, trouble_of_deployment, trouble_of_pod


def waiting(reason: str, message: str = "", last: dict[str, Any] | None = None) -> dict[str, Any]:
    container = {"name": "agent", "state": {"waiting": {"reason": reason, "message": message}}}
    if last is not None:
        container["lastState"] = {"terminated": last}
    return {"status": {"phase": "Pending", "containerStatuses": [container]}}


def ended(**terminated: Any) -> dict[str, Any]:
    return {"status": {"phase": "Running", "containerStatuses": [{"state": {"terminated": terminated}}]}}


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    entry = {"type": kind, "status": status, "reason": reason, "message": message}
    return {"status": {"phase": "Pending", "conditions": [entry]}}


@pytest.mark.parametrize(
    ("pod", "reason", "final"),
    [
        (waiting("ErrImagePull", "not found"), "ImagePullFailed", False),
        (waiting("ImagePullBackOff", "Back-off pulling image"), "ImagePullFailed", True),
        (waiting("ErrImageNeverPull"), "ImageMissing", True),
        (waiting("InvalidImageName"), "ImageNameInvalid", True),
        (waiting("CreateContainerConfigError", 'secret "keys" not found'), "ConfigMissing", True),
        (waiting("RunContainerError"), "CommandNotRunnable", True),
        (waiting("CrashLoopBackOff", "back-off 10s", {"exitCode": 1, "reason": "Error"}), "CrashedAtStart", True),
        (waiting("CrashLoopBackOff", "", {"exitCode": 128, "reason": "StartError"}), "CommandNotRunnable", True),
        (ended(exitCode=3, reason="Error"), "CrashedAtStart", True),
        (ended(exitCode=137, reason="OOMKilled"), "CrashedAtStart", True),
        (condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available"), "Unschedulable", False),
        ({"status": {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}}, "Evicted", True),
        ({"status": {"phase": "Failed"}}, "PodFailed", True),
    ],
)
def test_each_trouble(pod: dict[str, Any], reason: str, final: bool):
    found = trouble_of_pod(pod)
    assert found is not None
    assert (found.reason, found.final) == (reason, final)


@pytest.mark.parametrize(
    "pod",
    [
        {},
        waiting("ContainerCreating"),
        waiting("PodInitializing"),
        condition("PodScheduled", "True", "", ""),
        {"status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}},
    ],
)
def test_a_starting_pod_has_no_trouble(pod: dict[str, Any]):
    assert trouble_of_pod(pod) is None


def test_the_remedy_names_the_event_and_the_fix():
    found = trouble_of_pod(ended(exitCode=137, reason="OOMKilled"))
    assert found is not None
    assert "resources.limits.memory" in found.remedy
    found = trouble_of_pod(ended(exitCode=3, reason="Error"))
    assert found is not None
    assert found.remedy.startswith("the container ended with exit code 3; ")
    found = trouble_of_pod(waiting("ImagePullBackOff", "Back-off pulling\n image  x."))
    assert found is not None
    assert found.remedy == "Back-off pulling image x; check the image's name and its pull secrets"


def test_long_messages_are_cut():
    found = trouble_of_pod(waiting("ImagePullBackOff", "x" * 2000))
    assert found is not None
    assert len(found.remedy) < MAX_WORDS + 60


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "x" is forbidden: exceeded quota: small, requested: pods=1', "QuotaExceeded"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": seLinux', "PodSecurityRefused"),
        ('pods "x" is forbidden: maximum memory usage per Container is 64Mi', "ResourcesRefused"),
        ('pods "x" is forbidden: no PriorityClass with name low was found', "PriorityClassMissing"),
        ('pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found', "RuntimeClassMissing"),
        ('admission webhook "no" denied the request', "PodRefused"),
    ],
)
def test_a_pod_that_is_never_created(message: str, reason: str):
    found = trouble_of_deployment(condition("ReplicaFailure", "True", "FailedCreate", message))
    assert found is not None
    assert (found.reason, found.final) == (reason, True)


def test_a_healthy_deployment_has_no_trouble():
    assert trouble_of_deployment(condition("Available", "True", "", "")) is None
    assert trouble_of_deployment({}) is None
