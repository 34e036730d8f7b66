"""The runbook tells of everything that can go wrong with a pod, and of every alert."""

from __future__ import annotations

import re

from session_manager.runtime.kubernetes import steps, trouble
from session_manager.runtime.kubernetes.resources import CLASS_INVALID
from tests.chart.helm import CHART, ROOT

RUNBOOK = (ROOT / "docs" / "kubernetes" / "runbook.md").read_text("utf-8")
OF_PROCESSES = ROOT / "session_manager" / "runtime" / "process"


def reasons() -> set[str]:
    """Of pods in a cluster that do not start."""
    tables = {reason for reason, _, _ in trouble._WAITING.values()} | {reason for _, reason, _ in trouble._REFUSALS}
    files = [path for part in ("session_manager", "operator") for path in (ROOT / part).rglob("*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files if not path.is_relative_to(OF_PROCESSES))
    hindrances = {steps.API_BROKEN} | {reason for reason, _ in steps._EVENTS.values()}
    return (
        tables
        | hindrances
        | {CLASS_INVALID}
        | set(re.findall(r'(?:Trouble|PodCannotStart)\([^,]*?"([A-Z][A-Za-z]+)"', code))
    )


def test_every_reason_for_which_a_pod_cannot_start_stands_in_it():
    causes = re.findall(r"^   \| (`.*?) \|", RUNBOOK, re.M)
    told = set(re.findall(r"`(\w+)`", "".join(causes)))
    assert told == reasons()


def test_every_alert_stands_in_it():
    rules = (CHART / "templates" / "monitoring.yaml").read_text("utf-8")
    assert set(re.findall(r"^\| `(Session\w+)`", RUNBOOK, re.M)) == set(re.findall(r"- alert: (\w+)", rules))
