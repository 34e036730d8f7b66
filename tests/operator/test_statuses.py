"""The status table in ``statuses``, line by line."""

from __future__ import annotations

import re

import pytest

from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator import statuses
from session_operator.statuses import Facts, status_of
from tests.servers import crds

NOW = "2026-01-31T12:00:00Z"
BEFORE = "2026-01-31T11:00:00Z"
FAILED = Trouble("ImagePullFailed", "check the image")

TABLE = [
    (Facts(mode="Suspended", pod="p"), "Suspended", ("False", "Suspended"), ("False", "Suspended")),
    (Facts(class_found=False, pod="p"), "Failed", ("False", "ClassMissing"), ("False", "ClassMissing")),
    (Facts(trouble=FAILED, last_wake=BEFORE), "Failed", ("False", "ImagePullFailed"), ("False", "ImagePullFailed")),
    (Facts(pod="p", last_wake=BEFORE), "Awake", ("True", "PodAnswers"), ("True", "PodAnswers")),
    (Facts(last_wake=BEFORE), "Sleeping", ("True", "WakesOnMessage"), ("False", "Idle")),
    (Facts(), "Created", ("True", "WakesOnMessage"), ("False", "NeverWoken")),
    (Facts(keda_missing=True), "Created", ("True", "KedaMissing"), ("False", "NeverWoken")),
    (Facts(keda_missing=True, trouble=FAILED), "Failed", ("False", "ImagePullFailed"), ("False", "ImagePullFailed")),
]


@pytest.mark.parametrize(("facts", "phase", "ready", "awake"), TABLE)
def test_each_line(facts: Facts, phase: str, ready: tuple[str, str], awake: tuple[str, str]):
    status = status_of(facts, {}, NOW)
    found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert (status["phase"], found) == (phase, {"Ready": ready, "Awake": awake})


def test_the_documented_table_has_these_phases_and_reasons():
    lines = re.findall(r"^(?:\S+ )+\s+([A-Z][a-z]+)\s+(?:True|False)\s+(<.*?>|\w+)", statuses.__doc__ or "", re.M)
    documented = [(phase, "ImagePullFailed" if reason.startswith("<") else reason) for phase, reason in lines]
    assert documented == [(phase, ready[1]) for _, phase, ready, _ in TABLE[:6]]


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


def test_the_message_contains_the_remedy():
    ready, _ = status_of(Facts(trouble=FAILED), {}, NOW)["conditions"]
    assert ready["message"] == "check the image"
