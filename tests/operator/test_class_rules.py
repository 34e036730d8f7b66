"""What SessionClasses may ask for: the lists of the installation, and the sentences about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager.domain.errors import StartupFailure
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses, parse_class
from session_operator.class_rules import ClassRules
from session_operator.settings import OperatorSettings

RULES = ClassRules(
    secrets=("model-keys", "agents-*"),
    reserved=("session-manager-key",),
    labels=("team",),
    annotations=("example.com/*",),
    runtime_classes=("gvisor",),
    priority_classes=("agents",),
)


def a_class(**spec: Any) -> ClassSpec:
    return parse_class({"metadata": {"name": "c"}, "spec": {"image": "x", **spec}}, 120, 86_400)


def secret_of_variable(name: str) -> dict[str, Any]:
    return {"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}


ALLOWED: list[dict[str, Any]] = [
    {},
    {"env": [{"name": "A", "value": "1"}, secret_of_variable("model-keys")]},
    {"envFrom": [{"secretRef": {"name": "agents-openai"}}]},
    {"imagePullSecrets": [{"name": "model-keys"}]},
    {"template": {"labels": {"team": "a"}, "annotations": {"example.com/a": "b"}, "priorityClassName": "agents"}},
    {"runtimeClassName": "gvisor"},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"env": [secret_of_variable("db")]}, "Secrets db"),
    ({"envFrom": [{"secretRef": {"name": "model-keys"}}, {"secretRef": {"name": "z"}}]}, "Secrets z"),
    ({"envFrom": [{"secretRef": {"name": "b"}}], "imagePullSecrets": [{"name": "a"}]}, "Secrets b, a"),
    ({"imagePullSecrets": [{"name": "model-keys-2"}]}, "Secrets model-keys-2"),
    ({"envFrom": [{"secretRef": {"name": "session-manager-key"}}]}, "Secrets session-manager-key"),
    ({"template": {"labels": {"app": "session-manager"}}}, "labels app"),
    ({"template": {"labels": {"sidecar.istio.io/inject": "true"}}}, "labels sidecar.istio.io/inject"),
    ({"template": {"annotations": {"sidecar.istio.io/userVolume": "[]"}}}, "annotations sidecar.istio.io/userVolume"),
    ({"template": {"annotations": {"k8s.v1.cni.cncf.io/networks": "n"}}}, "annotations k8s.v1.cni.cncf.io/networks"),
    ({"template": {"annotations": {"vault.hashicorp.com/agent-inject-template-a": "x"}}}, "annotations vault."),
    ({"runtimeClassName": "runc-privileged"}, "RuntimeClass runc-privileged"),
    ({"template": {"priorityClassName": "system-node-critical"}}, "PriorityClass system-node-critical"),
]


@pytest.mark.parametrize("spec", ALLOWED, ids=str)
def test_what_the_lists_allow(spec: dict[str, Any]):
    assert RULES.refusal(a_class(**spec)) == ""


@pytest.mark.parametrize(("spec", "words"), REFUSED, ids=str)
def test_what_they_do_not(spec: dict[str, Any], words: str):
    found = RULES.refusal(a_class(**spec))
    assert words in found
    assert "the chart's value sessions.allowed" in found


@pytest.mark.parametrize("spec", ALLOWED[2:], ids=str)
def test_nothing_is_allowed_by_default(spec: dict[str, Any]):
    assert ClassRules().refusal(a_class(**spec))


def test_the_key_of_the_service_is_refused_even_if_every_secret_is_allowed():
    rules = ClassRules(secrets=("*",), reserved=("session-manager-key",))
    spec = a_class(envFrom=[{"secretRef": {"name": "any"}}, {"secretRef": {"name": "session-manager-key"}}])
    assert rules.refusal(spec) == (
        "this SessionClass may not use the Secrets session-manager-key; "
        "the chart's value sessions.allowedSecrets lists those it may use"
    )


def test_the_lists_come_from_settings():
    settings = OperatorSettings.from_environment(allowed_secrets="model-keys, agents-*", allowed_labels="team")
    assert settings.classes.rules() == ClassRules(secrets=("model-keys", "agents-*"), labels=("team",))
    with pytest.raises(StartupFailure, match=r"ALLOWED_SECRETS: invalid list .* expected comma-separated names"):
        OperatorSettings.from_environment(allowed_secrets="a*b")


def test_a_refused_class_is_known_with_its_refusal():
    classes = ClusterClasses(120, 86_400, "image", 1111, refusal=RULES.refusal)
    resource = {"metadata": {"name": "c"}, "spec": {"image": "x", "runtimeClassName": "other"}}
    assert "RuntimeClass other" in classes.parse(resource).refusal
