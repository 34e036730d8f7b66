"""The admission policies are rendered where they should be. The cluster tests have an API server enforce them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.chart.helm import CHART, NAMESPACE, RELEASE, needs_helm, render, run

pytestmark = needs_helm

POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"


def expressions(kind: str, **sessions: Any) -> str:
    found = render({"sessions": {"namespace": "people", **sessions}}).find(POLICY, f"session-manager-prod-{kind}")[
        "spec"
    ]
    rules = [*found.get("variables", ()), *found["matchConditions"], *found["validations"]]
    return "\n".join(each["expression"] for each in rules)


def test_every_policy_is_bound_and_denies():
    objects = render()
    assert objects.names(POLICY) == objects.names(BINDING)
    assert len(objects.names(POLICY)) == 10
    for name in objects.names(POLICY):
        assert objects.find(POLICY, name)["spec"]["failurePolicy"] == "Fail"
        assert objects.find(BINDING, name)["spec"] == {"policyName": name, "validationActions": ["Deny"]}


def test_each_policy_is_about_one_account_or_about_the_classes_of_one_namespace():
    objects = render({"sessions": {"namespace": "people"}})
    for name in objects.names(POLICY):
        spec = objects.find(POLICY, name)["spec"]
        if name.endswith("-classes"):
            labels = {"kubernetes.io/metadata.name": "people"}
            assert spec["matchConstraints"]["namespaceSelector"] == {"matchLabels": labels}
        else:
            account = "session-operator" if "-operator" in name else "session-manager"
            condition = f"request.userInfo.username == 'system:serviceaccount:prod:{account}'"
            assert spec["matchConditions"][0]["expression"] == condition


def test_the_lists_become_patterns_and_the_secrets_of_the_service_are_never_among_them():
    more = {"allowedSecrets": ["model.keys", "a-*"], "allowedAnnotations": ["example.com/*"]}
    for kind in ("classes", "operator-deployments"):
        found = expressions(kind, **more)
        assert "^(model[.]keys|a-.*)$" in found
        assert "^(example[.]com/.*)$" in found
        assert "^()$" in found  # the lists that are empty match no name
        reserved = re.search(r"in \[(.*?)]\)?", found[found.index("model") :])
        assert reserved is not None
        assert set(reserved[1].split(",")) >= {'"session-manager-key"', '"redis-credentials"', '"postgres-credentials"'}


def test_none_where_they_are_switched_off():
    assert render({"admissionPolicy": {"enabled": False}}).names(POLICY) == set()


@pytest.mark.parametrize(("version", "there"), [("1.29.9", False), ("1.30.0", True), ("1.30.5-gke.100", True)])
def test_none_on_a_cluster_that_does_not_know_them(version: str, there: bool):
    done = run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", version)
    assert done.returncode == 0, done.stderr
    assert (f"kind: {POLICY}\n" in done.stdout) == there
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    assert "This cluster is older than Kubernetes 1.30" in notes
