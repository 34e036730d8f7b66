"""The steps of a start, from the status of a pod and from its Events."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.runtime.kubernetes.cluster import Cluster
from session_manager.runtime.kubernetes.pod_events import PodEvents
from session_manager.runtime.kubernetes.steps import CREATING, RUNNING, PodEvent, Step, pod_event, step_of, step_of_pod
from session_manager.runtime.kubernetes.trouble import Trouble

SCHEDULED = [{"type": "PodScheduled", "status": "True"}]
WAITS = {"name": "agent", "state": {"waiting": {"reason": "PodInitializing"}}}


def pod(status: dict[str, Any], *init: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"initContainers": list(init), "containers": [{"name": "agent"}]}, "status": status}


def initializing(state: dict[str, Any], **spec: Any) -> dict[str, Any]:
    statuses = [{"name": "setup", "state": state}]
    status = {"conditions": SCHEDULED, "initContainerStatuses": statuses, "containerStatuses": [WAITS]}
    return pod(status, {"name": "setup", **spec})


def with_own(state: dict[str, Any]) -> dict[str, Any]:
    mesh = {"name": "istio-proxy", "state": {"running": {}}}
    return pod({"conditions": SCHEDULED, "containerStatuses": [mesh, {"name": "agent", "state": state}]})


GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        (pod({}), "Scheduling", "looking for a node"),
        (pod({"conditions": [GATED]}), "SchedulingGated", "waiting until its scheduling gates are removed"),
        (pod({"conditions": SCHEDULED}), "Creating", "pulling the image and making the container"),
        (initializing({"running": {}}), "Initializing", "running the init container setup"),
        (initializing({"running": {}}, restartPolicy="Always"), "Creating", CREATING.words),
        (initializing({"terminated": {"exitCode": 0}}), "Creating", CREATING.words),
        (with_own({"waiting": {"reason": "ContainerCreating"}}), "Creating", CREATING.words),
        (with_own({"running": {}}), "Starting", "starting the program"),
    ],
)
def test_the_step_of_a_pod(pod: dict[str, Any], reason: str, words: str):
    assert step_of_pod(pod) == Step(reason, words)


def told(reason: str, message: str, at: str = "2026-01-31T12:00:00Z", warns: bool = True) -> PodEvent:
    return PodEvent("uid", reason, message, at, warns)


PULLING = told("Pulling", 'Pulling image "agent:1"', "2026-01-31T12:00:03Z", warns=False)
NOT_ATTACHED = told("FailedAttachVolume", "Multi-Attach error for volume pvc-1", "2026-01-31T12:00:01Z")
NOT_MOUNTED = told("FailedMount", "MountVolume.SetUp failed for volume pvc-1: timed out", "2026-01-31T12:00:02Z")


@pytest.mark.parametrize(
    ("events", "reason", "words", "hinders"),
    [
        ((), "Creating", CREATING.words, False),
        ((PULLING,), "Pulling", 'pulling image "agent:1" since 2026-01-31T12:00:03Z', False),
        ((NOT_ATTACHED,), "VolumeNotAttached", "Multi-Attach error for volume pvc-1; check the volume", True),
        ((NOT_MOUNTED, NOT_ATTACHED), "VolumeNotMounted", "MountVolume.SetUp failed for volume pvc-1", True),
        ((NOT_MOUNTED, PULLING), "Pulling", 'pulling image "agent:1"', False),
        ((told("FailedCreatePodSandBox", "no CNI"),), "SandboxFailed", "no CNI; check the network plugin", True),
        ((told("NetworkNotReady", "network is not ready"),), "NetworkNotReady", "network is not ready; see", True),
        ((told("Preempted", "made room", warns=False),), "Creating", CREATING.words, False),
    ],
)
def test_events_say_what_a_pod_waits_for(events: tuple[PodEvent, ...], reason: str, words: str, hinders: bool):
    found = step_of(CREATING, None, events)
    assert (found.reason, found.hinders) == (reason, hinders)
    assert found.words.startswith(words)


def test_events_of_the_past_do_not_hide_a_program_that_runs():
    assert step_of(RUNNING, None, (NOT_MOUNTED,)) == RUNNING


def test_the_trouble_of_a_pod_goes_first():
    trouble = Trouble("Unschedulable", "0/1 nodes are available; add a node", final=False)
    found = step_of(CREATING, trouble, (NOT_MOUNTED,))
    assert found == Step("Unschedulable", trouble.remedy, hinders=True)
    assert found.phase == "Unschedulable: 0/1 nodes are available; add a node"


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({"lastTimestamp": "2026-01-31T12:00:05Z", "eventTime": None}, "2026-01-31T12:00:05Z"),
        ({"lastTimestamp": None, "eventTime": "2026-01-31T12:00:06.5Z"}, "2026-01-31T12:00:06.5Z"),
        ({}, "2026-01-31T12:00:00Z"),
    ],
)
def test_an_event_has_the_time_at_which_it_was_seen_last(times: dict[str, Any], at: str):
    made = {"name": "e", "creationTimestamp": "2026-01-31T12:00:00Z"}
    event = {"metadata": made, "involvedObject": {"uid": "u"}, "reason": "Pulling", "type": "Normal", **times}
    assert pod_event(event) == PodEvent("u", "Pulling", "", at, False)


def test_the_latest_event_of_a_reason_is_kept_until_it_expires():
    events = PodEvents(Cluster("default"))
    events._on_event("ADDED", told("FailedMount", "one"))
    events._on_event("MODIFIED", told("FailedMount", "two"))
    events._on_event("ADDED", PULLING)
    assert [event.message for event in events.of("uid")] == ["two", PULLING.message]
    events._on_event("DELETED", PULLING)
    events._on_event("DELETED", told("FailedMount", "two"))
    assert events.of("uid") == ()
    assert not events._by_pod
