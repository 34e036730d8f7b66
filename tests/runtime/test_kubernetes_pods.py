"""The parsed view of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.runtime.kubernetes.pods import view_of

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"


def pod(status: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    container = {"name": "agent", "ports": [{"containerPort": 8000}]}
    return {
        "metadata": {
            "name": "session-x-1",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "labels": {"sessionmanager.dev/session": UUID},
            "annotations": {"sessionmanager.dev/spec-hash": "abc", "sessionmanager.dev/probe": "/ready"},
            **metadata,
        },
        "spec": {"containers": [container]},
        "status": status or {},
    }


def running(**container: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
    states = [{"name": "agent", "state": {"running": {}}, "restartCount": 0, **container}]
    return {"phase": "Running", "podIP": "10.1.2.3", "conditions": conditions, "containerStatuses": states}


def test_a_pod_that_answers():
    view = view_of(pod(running()))
    assert (view.session, view.warm, view.ip, view.port, view.path) == (UUID, "", "10.1.2.3", 8000, "/ready")
    assert (view.ready, view.leaving, view.claimed, view.ended, view.trouble) == (True, False, False, "", None)
    assert (view.spec_hash, view.version) == ("abc", "7")


def test_a_pod_of_a_pool_and_a_claimed_pod():
    assert view_of(pod(running(), labels={"sessionmanager.dev/warm": "default"})).warm == "default"
    owner = {"kind": "Session", "controller": True}
    assert view_of(pod(running(), ownerReferences=[owner])).claimed
    assert not view_of(pod(running(), ownerReferences=[{"kind": "ReplicaSet", "controller": True}])).claimed


def test_a_pod_that_is_being_deleted():
    assert view_of(pod(running(), deletionTimestamp="2026-01-31T12:00:05Z")).leaving


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        (running(state={"terminated": {"exitCode": 3, "reason": "Error"}}), "exit code 3"),
        (running(state={"terminated": {"exitCode": 0, "reason": "Completed"}}), "exit code 0"),
        (running(state={"terminated": {"exitCode": 137, "reason": "Error"}}), "SIGKILL (exit code 137)"),
        (running(state={"terminated": {"exitCode": 130}}), "SIGINT (exit code 130)"),
        (
            running(state={"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}),
            "ContainerStatusUnknown (exit code 137)",
        ),
        (
            running(state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "OOMKilled: it used more memory than its limit",
        ),
        (running(state={"terminated": {"exitCode": 3}}), "exit code 3"),
        (running(restartCount=1, lastState={"terminated": {"exitCode": 1, "reason": "Error"}}), "exit code 1"),
        (running(restartCount=1), "restarted"),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Succeeded"}, "Succeeded"),
    ],
)
def test_a_program_that_ended_or_was_restarted_has_lost_its_state(status: dict[str, Any], ended: str):
    assert view_of(pod(status)).ended == ended


MESH = {"name": "istio-proxy", "ports": [{"containerPort": 15090}], "readinessProbe": {"httpGet": {"path": "/healthz"}}}


def with_company(status: dict[str, Any], **company: Any) -> dict[str, Any]:
    """Return a pod into which a mesh has put its container before ours. ``company``: the state of that container."""
    found = pod(status)
    found["spec"]["containers"].insert(0, MESH)
    found["status"]["containerStatuses"].insert(0, {"name": "istio-proxy", "restartCount": 0, **company})
    return found


def test_port_and_probe_are_those_of_our_container():
    found = with_company(running(), state={"running": {}})
    found["spec"]["containers"][1]["readinessProbe"] = {"httpGet": {"path": "/app-health/agent/readyz", "port": 15020}}
    view = view_of(found)
    assert (view.port, view.path, view.ended) == (8000, "/ready", "")


@pytest.mark.parametrize(
    "company",
    [
        {"state": {"running": {}}, "restartCount": 3, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}},
        {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
        {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
        {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 5},
    ],
)
def test_another_container_that_ends_is_not_the_end_of_the_pod(company: dict[str, Any]):
    view = view_of(with_company(running(), **company))
    assert (view.ended, view.alive) == ("", True)


def test_our_container_ends_the_pod_whatever_the_others_do():
    ended = running(state={"terminated": {"exitCode": 3}})
    assert view_of(with_company(ended, state={"running": {}})).ended == "exit code 3"
