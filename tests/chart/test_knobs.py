"""All four workloads take the same keys for their pods, each for itself or all together."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.settings import Settings
from session_operator.settings import OperatorSettings
from tests.chart import known
from tests.chart.helm import Objects, needs_helm, render

pytestmark = needs_helm

Json = dict[str, Any]

WORKLOADS = {
    "frontDoor": ("Deployment", "session-manager"),
    "operator": ("Deployment", "session-operator"),
    "redis": ("StatefulSet", "session-manager-redis"),
    "postgresql": ("StatefulSet", "session-manager-postgres"),
}
KNOBS: Json = {
    "annotations": {"example.com/owner": "chat", "example.com/cost": 7},
    "podAnnotations": {"example.com/port": 9090, "example.com/scrape": True},
    "podLabels": {"team": "chat", "app": "mine"},
    "nodeSelector": {"pool": "chat", "ssd": True},
    "tolerations": [{"key": "chat", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
    "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "high",
    "runtimeClassName": "gvisor",
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "LOG_LEVEL", "value": "DEBUG"}],
    "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/mine"}],
    "initContainers": [{"name": "wait", "image": "busybox"}],
    "sidecars": [{"name": "proxy", "image": "proxy"}],
    "podSecurityContext": {"supplementalGroups": [5000]},
    "securityContext": {"readOnlyRootFilesystem": False},
}
SPEC_AS_IT_IS = ("tolerations", "affinity", "priorityClassName", "runtimeClassName")


def check(objects: Objects, of: str) -> None:
    kind, name = WORKLOADS[of]
    workload = objects.find(kind, name)
    template, spec = workload["spec"]["template"], workload["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert workload["metadata"]["annotations"] == {"example.com/owner": "chat", "example.com/cost": "7"}
    assert template["metadata"]["annotations"].items() >= {
        ("example.com/port", "9090"),
        ("example.com/scrape", "true"),
    }
    assert (template["metadata"]["labels"]["team"], template["metadata"]["labels"]["app"]) == ("chat", name)
    assert spec["nodeSelector"] == {"pool": "chat", "ssd": "true"}
    assert {key: spec[key] for key in SPEC_AS_IT_IS} == {key: KNOBS[key] for key in SPEC_AS_IT_IS}
    selector = {"labelSelector": {"matchLabels": workload["spec"]["selector"]["matchLabels"]}}
    assert spec["topologySpreadConstraints"] == [{**KNOBS["topologySpreadConstraints"][0], **selector}]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert len(env) == len(container["env"])
    assert (env["HTTPS_PROXY"], env["LOG_LEVEL"]) == ("http://proxy:3128", "DEBUG")
    assert container["envFrom"] == KNOBS["extraEnvFrom"]
    assert KNOBS["extraVolumes"][0] in spec["volumes"]
    assert KNOBS["extraVolumeMounts"][0] in container["volumeMounts"]
    assert spec["initContainers"] == [
        {"name": "wait", "image": "busybox"},
        {"name": "proxy", "image": "proxy", "restartPolicy": "Always"},
    ]
    assert spec["securityContext"]["supplementalGroups"] == [5000]
    assert spec["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("of", WORKLOADS)
def test_a_workload_has_every_knob(of: str):
    objects = render({of: KNOBS})
    check(objects, of)
    for each in WORKLOADS.keys() - {of}:
        kind, name = WORKLOADS[each]
        assert "tolerations" not in objects.find(kind, name)["spec"]["template"]["spec"]


def test_all_workloads_at_once():
    objects = render({"pods": KNOBS})
    for of in WORKLOADS:
        check(objects, of)
    test = objects.find("Pod", "session-manager-test")["spec"]
    assert {key: test[key] for key in SPEC_AS_IT_IS} == {key: KNOBS[key] for key in SPEC_AS_IT_IS}


def test_a_workload_goes_before_all():
    objects = render({"pods": {"priorityClassName": "low"}, "redis": {"priorityClassName": "high"}})
    found = {name: spec["priorityClassName"] for name, spec in objects.pod_specs().items()}
    assert found.pop("StatefulSet session-manager-redis") == "high"
    assert set(found.values()) == {"low"}


def test_front_doors_spread_over_nodes_and_zones():
    spec = render().pod_specs()["Deployment session-manager"]
    keys = [(each["topologyKey"], each["whenUnsatisfiable"]) for each in spec["topologySpreadConstraints"]]
    assert keys == [
        ("kubernetes.io/hostname", "ScheduleAnyway"),
        ("topology.kubernetes.io/zone", "ScheduleAnyway"),
    ]


def test_a_registry_and_pull_secrets_for_all():
    objects = render(
        {
            "global": {"imageRegistry": "registry.example:5000/mirror/", "imagePullSecrets": ["a", {"name": "b"}]},
            "imagePullSecrets": [{"name": "b"}, "c"],
            "image": {"digest": "sha256:" + "0" * 64},
        }
    )
    for spec in objects.pod_specs().values():
        assert spec["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    images = {container["image"] for spec in objects.pod_specs().values() for container in spec["containers"]}
    assert images == {
        f"registry.example:5000/mirror/session-manager@sha256:{'0' * 64}",
        "registry.example:5000/mirror/redis:7.4-bookworm",
        "registry.example:5000/mirror/postgres:16-bookworm",
    }
    env = objects.env("Deployment", "session-operator")
    assert env["USER_POD_IMAGE"].startswith("registry.example:5000/mirror/session-agent:")


OPENSHIFT = "security.openshift.io/v1"


@pytest.mark.parametrize(("values", "served"), [({"openshift": True}, ()), ({}, (OPENSHIFT,))], ids=["said", "found"])
def test_openshift_chooses_the_users(values: Json, served: tuple[str, ...]):
    objects = render(values, served=served)
    for spec in objects.pod_specs().values():
        assert not spec["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"] + spec.get("initContainers", []):
            assert "runAsUser" not in container["securityContext"]
    assert objects.env("Deployment", "session-operator")["POD_USERS_ASSIGNED"] == "true"


def test_the_users_are_fixed_elsewhere():
    for objects in (render(), render({"openshift": False}, served=(OPENSHIFT,))):
        users = {spec["securityContext"]["runAsUser"] for spec in objects.pod_specs().values()}
        assert users == {65532, 999}


def test_postgresql_gets_a_name_for_a_user_whom_the_cluster_chose():
    spec = render({"openshift": True}).pod_specs()["StatefulSet session-manager-postgres"]
    [user] = spec["initContainers"]
    [mount] = [each for each in spec["containers"][0]["volumeMounts"] if each["mountPath"] == "/etc/passwd"]
    assert mount["name"] == user["volumeMounts"][0]["name"]
    assert "initContainers" not in render().pod_specs()["StatefulSet session-manager-postgres"]


def test_the_chart_knows_every_setting():
    assert known.FILE.read_text("utf-8") == known.text(), "make docs"
    assert known.ELSEWHERE.keys() <= OperatorSettings.declared().keys()


@pytest.mark.parametrize(("of", "name"), [("frontDoor", "session-manager"), ("operator", "session-operator")])
def test_every_setting_can_be_given(of: str, name: str):
    settings = Settings if of == "frontDoor" else OperatorSettings
    given = dict.fromkeys(settings.declared().keys() - known.ELSEWHERE.keys(), "x")
    container = render({of: {"env": given}}).find("Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    assert {each["name"] for each in container["env"] if each.get("value") == "x"} == given.keys()


def test_a_setting_can_come_from_a_secret():
    source = {"valueFrom": {"secretKeyRef": {"name": "model", "key": "key"}}}
    env = render({"frontDoor": {"env": {"OPENAI_API_KEY": source, "MAX_DRAINS": 10_000_000}}}).env(
        "Deployment", "session-manager"
    )
    assert env["OPENAI_API_KEY"] == source["valueFrom"]
    assert env["MAX_DRAINS"] == "10000000"


def test_volumes_name_their_class():
    def classes(objects: Objects) -> set[str | None]:
        claims = [each["spec"] for each in objects.items if each["kind"] == "PersistentVolumeClaim"]
        sets = [each["spec"] for each in objects.items if each["kind"] == "StatefulSet"]
        claims += [claim["spec"] for each in sets for claim in each["volumeClaimTemplates"]]
        return {claim.get("storageClassName") for claim in claims}

    sqlite: Json = {"postgresql": {"enabled": False}, "frontDoor": {"replicas": 1}}
    assert classes(render()) == {None}
    for values in ({}, sqlite):
        assert classes(render({**values, "global": {"storageClass": "fast"}})) == {"fast"}
    own = {"persistence": {"storageClassName": "slow"}}
    assert classes(render({"global": {"storageClass": "fast"}, "redis": own, "postgresql": own})) == {"slow"}
