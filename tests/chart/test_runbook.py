"""The runbook tells of everything that can go wrong with a pod, and of every alert."""

from __future__ import annotations

import re

import pytest

from session_manager.runtime.kubernetes import steps, trouble
from session_manager.runtime.kubernetes.resources import CLASS_INVALID
from tests.chart.helm import CHART, HELM, NAMESPACE, ROOT, render

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


def first_looks() -> dict[str, str]:
    """The text for each alert, as a message without a page around it can have it."""
    rows = re.findall(r"^\| `(Session\w+)` \| (.*) \|$", RUNBOOK, re.M)
    return {alert: re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).translate({96: None, 92: None}) for alert, text in rows}


def test_every_alert_stands_in_it():
    rules = (CHART / "templates" / "monitoring.yaml").read_text("utf-8")
    assert first_looks().keys() == set(re.findall(r"- alert: (\w+)", rules))


@pytest.mark.chart
@pytest.mark.skipif(HELM is None, reason="needs helm")
def test_every_alert_says_what_the_runbook_says():
    values = {"monitoring": {"prometheusRule": True}, "sessions": {"namespace": "people"}}
    [group] = render(values).find("PrometheusRule", "session-manager")["spec"]["groups"]
    said = {rule["alert"]: rule["annotations"]["description"] for rule in group["rules"]}
    names = {"-n $N": f"-n {NAMESPACE}", "-n $S": "-n people"}
    expected = {
        alert: re.sub(r"-n \$[NS]", lambda found: names[found[0]], text) for alert, text in first_looks().items()
    }
    assert said == expected
