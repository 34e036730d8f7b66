"""The pods of a release: how they are isolated, what they are told, how they end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from session_operator.settings import OperatorSettings
from tests.chart.helm import KEDA, Objects, needs_helm, render

pytestmark = needs_helm

Json = dict[str, Any]

SQLITE: Json = {"postgresql": {"enabled": False}, "frontDoor": {"replicas": 1}}
FILES = ((), ("values-gke.yaml",))


def weaknesses(spec: Json) -> list[str]:
    """Where a pod falls short of the level restricted, and of a read-only root."""
    pod = spec["securityContext"]
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if pod["seccompProfile"] != {"type": "RuntimeDefault"}:
        found.append("seccompProfile")
    if not pod["runAsNonRoot"] or not pod.get("runAsUser"):
        found.append("runAsNonRoot")
    kinds = {kind for volume in spec.get("volumes", ()) for kind in volume if kind != "name"}
    found += sorted(kinds - {"emptyDir", "configMap", "secret", "persistentVolumeClaim"})
    for container in spec["containers"] + spec.get("initContainers", []):
        own = container["securityContext"]
        expected = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        found += [f"{container['name']}.{key}" for key, value in expected.items() if own.get(key) != value]
    return found


@pytest.mark.parametrize("files", FILES, ids=str)
@pytest.mark.parametrize("values", [{}, SQLITE], ids=["postgres", "sqlite"])
def test_every_pod_is_restricted_and_has_resources(values: Json, files: tuple[str, ...]):
    specs = render(values, files=files).pod_specs()
    assert {name: weaknesses(spec) for name, spec in specs.items()} == {name: [] for name in specs}
    for spec in specs.values():
        assert all(
            {"requests", "limits"} <= set(each["resources"])
            for each in spec["containers"] + spec.get("initContainers", [])
        )


def test_only_front_door_and_operator_have_a_token():
    specs = render().pod_specs()
    with_token = {name for name, spec in specs.items() if spec.get("automountServiceAccountToken", True)}
    assert with_token == {"Deployment session-manager", "Deployment session-operator"}


def front_door(objects: Objects) -> Json:
    found: Json = objects.find("Deployment", "session-manager")["spec"]
    return found


def test_the_front_door_rolls_without_a_gap():
    spec = front_door(render())
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["template"]["metadata"]["labels"]["app"] == "session-manager"
    [container] = spec["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    # The program itself goes on answering for a while: a preStop hook would only keep it from knowing that it leaves.
    assert "lifecycle" not in container
    assert render().env("Deployment", "session-manager")["SHUTDOWN_DELAY"] == "5"
    budget = render().find("PodDisruptionBudget", "session-manager")["spec"]
    # A minimum would keep a node from being drained that has the only replica.
    assert "minAvailable" not in budget
    assert (budget["maxUnavailable"], budget["selector"]) == (1, spec["selector"])


@pytest.mark.parametrize(("delay", "seconds"), [(0, 10), (20, 300)])
def test_a_pod_is_given_the_time_that_its_callers_and_its_turns_get(delay: int, seconds: int):
    objects = render({"frontDoor": {"shutdownDelaySeconds": delay, "shutdownTimeoutSeconds": seconds}})
    env = objects.env("Deployment", "session-manager")
    assert (env["SHUTDOWN_DELAY"], env["SHUTDOWN_TIMEOUT"]) == (str(delay), str(seconds))
    assert front_door(objects)["template"]["spec"]["terminationGracePeriodSeconds"] == delay + seconds + 10


def test_a_bucket_for_backups():
    backup = {"bucket": "gs://mine/sessions", "existingSecret": "bucket-key", "shutdownSeconds": 90}
    for values, seconds in ((SQLITE, 5 + 60 + 10 + 90), ({}, 5 + 60 + 10)):  # PostgreSQL has no last one
        objects = render({**values, "backup": backup})
        env = objects.env("Deployment", "session-manager")
        assert (env["STORAGE_BUCKET"], env["BACKUP_SHUTDOWN_TIMEOUT"]) == ("gs://mine/sessions", "90")
        spec = front_door(objects)["template"]["spec"]
        assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "bucket-key"}}]
        assert spec["terminationGracePeriodSeconds"] == seconds
    assert "envFrom" not in front_door(render())["template"]["spec"]["containers"][0]
    assert "STORAGE_BUCKET" not in render().env("Deployment", "session-manager")


def test_a_database_proxy_outlives_the_last_turn():
    spec = front_door(render({}, files=("values-gke.yaml",)))["template"]["spec"]
    [proxy] = spec["initContainers"]
    assert (proxy["name"], proxy["restartPolicy"]) == ("cloud-sql-proxy", "Always")
    assert [container["name"] for container in spec["containers"]] == ["session-manager"]


def test_one_operator_at_a_time():
    spec = render().find("Deployment", "session-operator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    [container] = spec["template"]["spec"]["containers"]
    assert container["command"] == ["python3", "-m", "session_operator"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"


def test_sqlite_has_one_front_door_a_volume_and_no_budget():
    objects = render(SQLITE)
    spec = front_door(objects)
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    [data] = [each for each in spec["template"]["spec"]["volumes"] if each["name"] == "data"]
    assert data["persistentVolumeClaim"]["claimName"] in objects.names("PersistentVolumeClaim")
    assert objects.names("PodDisruptionBudget") == set()
    assert "SESSION_DB_URI" not in objects.env("Deployment", "session-manager")


def test_an_autoscaler_owns_the_replicas():
    objects = render({"frontDoor": {"autoscaling": {"enabled": True, "maxReplicas": 7}}})
    assert "replicas" not in front_door(objects)
    spec = objects.find("HorizontalPodAutoscaler", "session-manager")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 7)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "session-manager"}


def test_every_variable_is_a_setting():
    known = OperatorSettings.declared().keys()
    for values in (
        {},
        SQLITE,
        {"sessions": {"podCIDRs": ["10.0.0.0/8"]}, "frontDoor": {"trustedProxies": "10.0.0.0/8"}},
        {"backup": {"bucket": "gs://mine"}},
    ):
        objects = render(values)
        for name in ("session-manager", "session-operator"):
            assert set(objects.env("Deployment", name)) - known == set()


def test_front_door_and_operator_agree():
    values = {"sessions": {"namespace": "people", "podCIDRs": ["10.8.0.0/14"], "idleTimeoutSeconds": 45.5}}
    objects = render(values)
    door, operator = (objects.env("Deployment", name) for name in ("session-manager", "session-operator"))
    shared = {
        "SESSIONS_NAMESPACE": "people",
        "POD_CIDRS": "10.8.0.0/14",
        "IDLE_TIMEOUT": "45.5",
        "SESSION_TTL": "86400",
    }
    for env in (door, operator):
        assert {name: env[name] for name in shared} == shared
    assert {name: value for name, value in door.items() if name in operator and name != "LOG_LEVEL"} == {
        name: value for name, value in operator.items() if name in door and name != "LOG_LEVEL"
    }


def test_the_operator_tells_keda_an_address_that_holds_in_every_namespace():
    env = render().env("Deployment", "session-operator")
    assert env["KEDA_REDIS_ADDRESS"] == "session-manager-redis.prod.svc:6379"


def test_no_password_is_anywhere_but_in_a_secret():
    objects = render(served=(KEDA,))
    secrets = [each for each in objects.items if each["kind"] == "Secret"]
    words = {value for each in secrets for value in each["stringData"].values() if value not in {"keda"}}
    assert len(words) == 6  # service key, key of Prometheus, both in one line; Redis, KEDA, PostgreSQL
    others = str([each for each in objects.items if each["kind"] != "Secret"])
    assert [word for word in words if word in others] == []


@pytest.mark.parametrize(
    ("words", "passing"),
    [
        ("PONG", {"startupProbe", "readinessProbe", "livenessProbe"}),
        ("MISCONF Errors writing to the AOF file", {"startupProbe", "readinessProbe", "livenessProbe"}),
        ("LOADING Redis is loading the dataset in memory", {"livenessProbe"}),
        ("NOAUTH Authentication required.", set()),
    ],
)
def test_a_redis_that_cannot_save_is_not_restarted(words: str, passing: set[str], tmp_path: Path):
    """Front doors have to reach it to report what it lacks, and a restart does not empty its disk."""
    program = tmp_path / "redis-cli"
    program.write_text(f"#!/bin/sh\necho '{words}'\n")
    program.chmod(0o755)
    [redis] = [spec for name, spec in render({}).pod_specs().items() if "redis" in name]
    [container] = redis["containers"]
    surroundings = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    probes = [name for name in container if name.endswith("Probe")]
    passed = {
        name
        for name in probes
        if not subprocess.run(container[name]["exec"]["command"], env=surroundings, check=False).returncode
    }
    assert passed == passing
