"""The trouble of pods, as the kubelet and the controllers of a real cluster report it."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.runtime.kubernetes.cluster import ApiError
from session_manager.runtime.kubernetes.trouble import (
    MAX_WORDS,
    last_words,
    trouble_of_deployment,
    trouble_of_pod,
    trouble_of_refusal,
)


def waiting(reason: str, message: str = "", last: dict[str, Any] | None = None) -> dict[str, Any]:
    container = {"name": "agent", "state": {"waiting": {"reason": reason, "message": message}}}
    if last is not None:
        container["lastState"] = {"terminated": last}
    return {"status": {"phase": "Pending", "containerStatuses": [container]}}


def ended(**terminated: Any) -> dict[str, Any]:
    return {
        "status": {"phase": "Running", "containerStatuses": [{"name": "agent", "state": {"terminated": terminated}}]}
    }


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
        (
            condition("PodScheduled", "False", "Unschedulable", "pod has unbound immediate PersistentVolumeClaims"),
            "VolumePending",
            False,
        ),
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
        {"status": {"phase": "Running", "containerStatuses": [{"name": "agent", "state": {"running": {}}}]}},
        condition(
            "PodScheduled", "False", "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"
        ),
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


def company(kind: str, name: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a pod whose own container waits for another one."""
    own = {"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}
    other = {"name": name, "state": state, **more}
    statuses: dict[str, list[Any]] = {"initContainerStatuses": [], "containerStatuses": [own]}
    statuses[kind].insert(0, other)
    return {"status": {"phase": "Pending", **statuses}}


CRASHED = {"terminated": {"exitCode": 1, "reason": "Error"}}
NOT_PULLED = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("initContainerStatuses", CRASHED, "container istio-init: the container ended with exit code 1"),
        ("initContainerStatuses", NOT_PULLED, "container istio-init: Back-off pulling image"),
        ("containerStatuses", NOT_PULLED, "container istio-init: Back-off pulling image"),
        ("containerStatuses", CRASHED, "container istio-init: the container ended with exit code 1"),
    ],
)
def test_the_trouble_of_another_container_is_shown_and_may_pass(kind: str, state: dict[str, Any], words: str):
    found = trouble_of_pod(company(kind, "istio-init", state))
    assert found is not None
    assert (found.reason, found.final) == ("SidecarFailed", False)
    assert found.remedy.startswith(words)


@pytest.mark.parametrize(
    "state", [{"running": {}}, {"terminated": {"exitCode": 0}}, {"waiting": {"reason": "PodInitializing"}}]
)
def test_another_container_that_works_is_no_trouble(state: dict[str, Any]):
    assert trouble_of_pod(company("initContainerStatuses", "istio-init", state)) is None


def test_another_container_that_was_restarted_and_runs_is_no_trouble():
    pod = company("containerStatuses", "istio-proxy", {"running": {}}, lastState=CRASHED, restartCount=2)
    assert trouble_of_pod(pod) is None


FORBIDDEN = 'deployments.apps "session-x" is forbidden: '


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (422, 'Deployment.apps "x" is invalid: spec.template.spec.containers[0].resources.requests', "ClassInvalid"),
        (422, "exceeded quota is only a label here", "ClassInvalid"),
        (422, "ValidatingAdmissionPolicy 'no-latest' with binding 'b' denied request: no latest", "ClassInvalid"),
        (400, "Deployment in version v1 cannot be handled as a Deployment: quantities must match", "ClassInvalid"),
        (400, "admission webhook policy.example.com denied the request: not signed", "ClassInvalid"),
        (403, "admission webhook policy.example.com denied the request: not signed", "ClassInvalid"),
        (413, "the request is too large", "ClassInvalid"),
        (403, FORBIDDEN + "exceeded quota: small, requested: count/deployments.apps=1", "QuotaExceeded"),
        (403, FORBIDDEN + 'violates PodSecurity "restricted:latest"', "PodSecurityRefused"),
        (403, FORBIDDEN + "unable to create: namespace people is being terminated", "NamespaceEnds"),
        (
            403,
            'deployments.apps is forbidden: User "system:serviceaccount:a:b" cannot create resource "deployments"',
            "RightsMissing",
        ),
    ],
)
def test_a_refusal_of_the_api_server(status: int, message: str, reason: str):
    found = trouble_of_refusal(ApiError(status, "Whatever", message))
    assert (found.reason, found.final) == (reason, True)
    assert found.remedy.startswith(message)


def test_a_refusal_without_words_says_what_is_known():
    assert trouble_of_refusal(ApiError(405, "MethodNotAllowed", "")).remedy.startswith("405 MethodNotAllowed; fix ")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", ""),
        ("one\ntwo \n\n", "two"),
        ("x" * 300, "x" * 200),
        (None, ""),
    ],
)
def test_the_last_line_of_its_output(message: str | None, words: str):
    state = {"exitCode": 1} if message is None else {"exitCode": 1, "message": message}
    assert last_words(state) == words


def test_a_crash_at_the_start_shows_the_last_line_of_output():
    found = trouble_of_pod(ended(exitCode=1, message="Traceback\nKeyError: 'LICENCE'\n"))
    assert found is not None
    assert "exit code 1; last output: KeyError: 'LICENCE'; read its output" in found.remedy
