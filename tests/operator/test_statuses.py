"""The status table in ``statuses``, line by line."""

from __future__ import annotations

import re

import pytest

from session_manager.runtime.kubernetes.steps import Step
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator import statuses
from session_operator.statuses import Facts, status_of
from tests.servers import crds

NOW = "2026-01-31T12:00:00Z"
BEFORE = "2026-01-31T11:00:00Z"
FAILED = Trouble("ImagePullFailed", "check the image")
PAGE = statuses.__doc__ or ""

REFUSED = Trouble("ClassInvalid", "must be less than or equal to memory limit")
STARTS = Step("Starting", "asking the cluster for a pod")
HINDERED = Step("Unschedulable", "0/1 nodes are available; add a node", hinders=True)
GONE = "The SessionClass gone does not exist; create it, or delete the session."
MISSING = ("False", "ClassMissing")

TABLE = [
    (Facts(mode="Suspended", pod="p"), "Suspended", ("False", "Suspended"), ("False", "Suspended")),
    (Facts(class_found=False, pod="p"), "Awake", MISSING, ("True", "PodAnswers")),
    (Facts(pod="p", last_wake=BEFORE), "Awake", ("True", "PodAnswers"), ("True", "PodAnswers")),
    (Facts(class_found=False, trouble=FAILED), "Failed", MISSING, MISSING),
    (Facts(refusal=REFUSED, step=STARTS), "Failed", ("False", "ClassInvalid"), ("False", "ClassInvalid")),
    (Facts(trouble=FAILED, step=STARTS), "Waking", ("False", "ImagePullFailed"), ("False", "Starting")),
    (Facts(step=HINDERED), "Waking", ("False", "Unschedulable"), ("False", "Unschedulable")),
    (Facts(step=STARTS, last_wake=BEFORE), "Waking", ("True", "WakesOnMessage"), ("False", "Starting")),
    (Facts(trouble=FAILED, last_wake=BEFORE), "Failed", ("False", "ImagePullFailed"), ("False", "ImagePullFailed")),
    (Facts(last_wake=BEFORE), "Sleeping", ("True", "WakesOnMessage"), ("False", "Idle")),
    (Facts(), "Created", ("True", "WakesOnMessage"), ("False", "NeverWoken")),
]
FURTHER = [
    (Facts(refusal=REFUSED, pod="p"), "Awake", ("True", "PodAnswers"), ("True", "PodAnswers")),
    (Facts(keda_missing=True), "Created", ("True", "KedaMissing"), ("False", "NeverWoken")),
    (Facts(keda_missing=True, trouble=FAILED), "Failed", ("False", "ImagePullFailed"), ("False", "ImagePullFailed")),
    (Facts(keda_missing=True, step=HINDERED), "Waking", ("False", "Unschedulable"), ("False", "Unschedulable")),
]


@pytest.mark.parametrize(("facts", "phase", "ready", "awake"), TABLE + FURTHER)
def test_each_line(facts: Facts, phase: str, ready: tuple[str, str], awake: tuple[str, str]):
    status = status_of(facts, {}, NOW)
    found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert (status["phase"], found) == (phase, {"Ready": ready, "Awake": awake})


def test_the_documented_table_has_these_lines():
    """A reason in angle brackets stands for the one of a step or a fault."""
    lines = re.findall(r"^\S.*?  ([A-Z][a-z]+) +(True|False) +(<.*?>|\w+) +(True|False) +(<.*?>|\w+)$", PAGE, re.M)
    found = [(phase, (ready, awake), (why, then)) for phase, ready, why, awake, then in lines]
    assert len(found) == len(TABLE)
    for line, (_, phase, ready, awake) in zip(found, TABLE, strict=True):
        assert line[:2] == (phase, (ready[0], awake[0]))
        told = [reason for reason, actual in zip(line[2], (ready[1], awake[1]), strict=True) if reason != actual]
        assert all(reason.startswith("<") for reason in told)


def test_every_phase_is_one_that_the_definition_allows():
    schema = crds.load()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    allowed = schema["properties"]["status"]["properties"]["phase"]["enum"]
    assert {phase for _, phase, *_ in TABLE} == set(allowed)


def test_the_whole_status():
    facts = Facts(pod="session-x-1", last_wake=NOW, generation=3)
    assert status_of(facts, {}, NOW) == {
        "phase": "Awake",
        "observedGeneration": 3,
        "podName": "session-x-1",
        "lastWakeTime": NOW,
        "conditions": [
            {
                "type": kind,
                "status": "True",
                "reason": "PodAnswers",
                "message": "The pod session-x-1 answers.",
                "observedGeneration": 3,
                "lastTransitionTime": NOW,
            }
            for kind in ("Ready", "Awake")
        ],
    }


def test_a_transition_gets_a_new_time_and_an_unchanged_condition_keeps_its_time():
    awake = status_of(Facts(pod="p", last_wake=BEFORE), {}, BEFORE)
    asleep = status_of(Facts(last_wake=BEFORE), awake, NOW)
    assert [each["lastTransitionTime"] for each in asleep["conditions"]] == [BEFORE, NOW]


@pytest.mark.parametrize(
    ("facts", "ready", "awake"),
    [
        (Facts(trouble=FAILED), "check the image", "check the image"),
        (Facts(step=HINDERED), f"The pod is starting: {HINDERED.words}.", f"The pod is starting: {HINDERED.words}."),
        (
            Facts(step=STARTS, trouble=FAILED),
            "The last start failed: check the image",
            "The pod is starting: asking the cluster for a pod.",
        ),
        (
            Facts(class_found=False, class_name="gone", pod="p"),
            f"The pod answers until the session sleeps, and no other can start: {GONE}",
            "The pod p answers.",
        ),
    ],
)
def test_the_messages_contain_the_cause_and_the_remedy(facts: Facts, ready: str, awake: str):
    found = [each["message"] for each in status_of(facts, {}, NOW)["conditions"]]
    assert found == [ready, awake]
