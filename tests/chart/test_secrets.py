"""Passwords: generated once, given by values, or named; pods restart when one changes."""

from __future__ import annotations

import json
from typing import Any

import yaml

from tests.chart.helm import CHART, KEDA, Objects, needs_helm, render, run

pytestmark = needs_helm

Json = dict[str, Any]

GIVEN: Json = {
    "redis": {"password": "one"},
    "postgresql": {"password": "two"},
    "apiKeys": {"key": "three-three-three"},
}
SECRETS = {"redis-credentials", "session-manager-redis-keda", "postgres-credentials", "session-manager-key"}


def rendered(values: Json) -> str:
    """Return the output of helm for a new rendering."""
    words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    where = ["--kube-version", "1.34.0", "--api-versions", KEDA]
    done = run("template", "sm", str(CHART), *where, *(f"--set-json={word}" for word in words))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_rendering_without_the_cluster_replaces_no_password():
    """The cluster refuses another value of an immutable Secret."""
    secrets = [item for item in yaml.safe_load_all(rendered({})) if item and item["kind"] == "Secret"]
    assert {item["metadata"]["name"] for item in secrets if item.get("immutable")} == SECRETS


def test_a_rendering_with_given_passwords_is_always_the_same():
    text = rendered(GIVEN)
    assert text == rendered(GIVEN)
    assert "immutable" not in text
    secrets = [item for item in yaml.safe_load_all(text) if item and item["kind"] == "Secret"]
    found = {name: value for item in secrets for name, value in item["stringData"].items()}
    assert (found["redis-password"], found["postgres-password"], found["key"]) == ("one", "two", "three-three-three")
    # KEDA's and Prometheus's are derived from them, and long.
    assert len({found["keda-password"], found["metrics-key"], "one", "three-three-three"}) == 4
    assert min(len(found["keda-password"]), len(found["metrics-key"])) >= 20


def sums(objects: Objects) -> dict[str, str | None]:
    workloads = [item for item in objects.items if item["kind"] in {"Deployment", "StatefulSet"}]
    return {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"].get("annotations", {}).get("checksum/secrets")
        for item in workloads
    }


def test_pods_restart_when_a_given_password_changes():
    before = sums(render(GIVEN))
    everywhere = {"session-manager", "session-operator", "session-manager-redis"}
    for changed, restarted in (("redis", everywhere), ("postgresql", {"session-manager", "session-manager-postgres"})):
        after = sums(render({**GIVEN, changed: {"password": "other"}}))
        assert {name for name in before if before[name] != after[name]} == restarted
    assert max(len(each or "") for each in before.values()) <= 5  # too short to test guesses against


def test_generated_passwords_have_no_checksum():
    """They change with each rendering that cannot read the present ones."""
    assert set(sums(render()).values()) == {None}


def test_pods_restart_when_their_script_changes():
    for name in ("session-manager-redis", "session-manager-postgres"):
        template = render().find("StatefulSet", name)["spec"]["template"]
        assert len(template["metadata"]["annotations"]["checksum/config"]) == 16
