"""Who may reach whom, and who may do what: compared whole."""

from __future__ import annotations

import copy
from typing import Any

from tests.chart.helm import needs_helm, render

pytestmark = needs_helm

Json = dict[str, Any]

APART: Json = {"sessions": {"namespace": "people"}}


def selected(app: str) -> Json:
    return {"podSelector": {"matchLabels": {"app": app, "app.kubernetes.io/instance": "sm"}}}


def of_release(app: str) -> Json:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "prod"}}, **selected(app)}


DOOR, OPERATOR = "session-manager", "session-operator"

SESSION_PODS: Json = {
    "podSelector": {
        "matchLabels": {"app.kubernetes.io/managed-by": "session-manager"},
        "matchExpressions": [
            {"key": "app.kubernetes.io/component", "operator": "In", "values": ["session", "warm-pool"]}
        ],
    },
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{"from": [of_release(DOOR), of_release(OPERATOR)]}],
    "egress": [
        {
            "to": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                    "podSelector": {
                        "matchExpressions": [
                            {"key": "k8s-app", "operator": "In", "values": ["kube-dns", "coredns", "node-local-dns"]}
                        ]
                    },
                }
            ],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        },
        {"to": [of_release(DOOR)], "ports": [{"protocol": "TCP", "port": 8080}]},
    ],
}


def server(app: str, port: int, *sources: Json) -> Json:
    return {
        **selected(app),
        "policyTypes": ["Ingress", "Egress"],  # and no way out
        "ingress": [{"from": list(sources), "ports": [{"protocol": "TCP", "port": port}]}],
    }


KEDA_PODS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}


def test_the_policies_whole():
    objects = copy.deepcopy(render(APART))
    found = {each["metadata"]["name"]: each for each in objects.items if each["kind"] == "NetworkPolicy"}
    # The last rule, about addresses outside, is evaluated in test_reach.
    assert len(found["session-pods"]["spec"]["egress"].pop().pop("to")) == 2
    assert {name: (each["metadata"]["namespace"], each["spec"]) for name, each in found.items()} == {
        "session-pods": ("people", SESSION_PODS),
        "session-manager-redis": (
            "prod",
            server("session-manager-redis", 6379, selected(DOOR), selected(OPERATOR), KEDA_PODS),
        ),
        "session-manager-postgres": ("prod", server("session-manager-postgres", 5432, selected(DOOR))),
    }


def test_keda_reaches_redis_only_where_it_scales():
    spec = render({"scaler": "native"}).find("NetworkPolicy", "session-manager-redis")["spec"]
    assert spec["ingress"][0]["from"] == [selected(DOOR), selected(OPERATOR)]


def test_the_labels_of_the_policy_are_those_of_session_pods():
    from session_manager.runtime.kubernetes import names  # noqa: PLC0415

    selector = SESSION_PODS["podSelector"]
    for labels in (names.session_labels("s", "c", "ann"), names.warm_labels("c")):
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[names.COMPONENT_LABEL] in selector["matchExpressions"][0]["values"]


def test_a_dns_cache_on_the_node_can_be_reached():
    spec = render({"networkPolicy": {"nodeLocalDNS": "169.254.20.10"}}).find("NetworkPolicy", "session-pods")["spec"]
    assert spec["egress"][0]["to"][1] == {"ipBlock": {"cidr": "169.254.20.10/32"}}


READ = ["get", "list", "watch"]
RIGHTS = {
    DOOR: {
        ("sessionmanager.dev", "sessions"): [*READ, "create", "patch", "delete"],
        ("sessionmanager.dev", "sessionclasses"): READ,
        ("", "pods"): [*READ, "delete"],
        ("", "pods/log"): ["get"],
        ("apps", "deployments/scale"): ["get", "patch"],
    },
    OPERATOR: {
        ("sessionmanager.dev", "sessions"): READ,
        ("sessionmanager.dev", "sessionclasses"): READ,
        ("sessionmanager.dev", "sessions/status"): ["patch"],
        ("sessionmanager.dev", "sessionclasses/status"): ["patch"],
        ("apps", "deployments"): [*READ, "create", "patch", "delete"],
        ("", "services"): [*READ, "create", "patch"],
        ("", "persistentvolumeclaims"): ["get", "create", "delete"],
        ("", "pods"): [*READ, "patch", "delete"],
        ("", "events"): ["list", "watch", "create", "patch"],
        ("keda.sh", "scaledobjects"): [*READ, "create", "patch", "delete"],
    },
}


def test_the_rights_whole_and_only_in_the_sessions_namespace():
    objects = render(APART)
    for name, rights in RIGHTS.items():
        role = objects.find("Role", name)
        assert role["metadata"]["namespace"] == "people"
        assert {
            (group, resource): rule["verbs"]
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        } == rights
        assert not any("resourceNames" in rule for rule in role["rules"])
        binding = objects.find("RoleBinding", name)
        assert binding["metadata"]["namespace"] == "people"
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "prod"}]
        assert objects.find("Deployment", name)["spec"]["template"]["spec"]["serviceAccountName"] == name
    assert objects.names("ClusterRole") | objects.names("ClusterRoleBinding") == set()
    assert objects.names("Role") == objects.names("RoleBinding") == set(RIGHTS)
