"""The fields of a Deployment that the scaler hands over to the operator, and those that it keeps."""

from __future__ import annotations

from typing import Any

from session_operator.fields import editors, hand_over, hand_over_patch, is_handed_over

WAKE = "f:sessionmanager.dev/wake"
TEMPLATE: dict[str, Any] = {"f:spec": {"f:containers": {}}}
CONTROLLER = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status", "fieldsV1": {}}
SCALED = {
    "manager": "session-scaler",
    "operation": "Update",
    "subresource": "scale",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}


def entry(fields: dict[str, Any], manager: str = "session-scaler", operation: str = "Update") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields}


def test_the_scaler_keeps_replicas_and_the_wake_annotation():
    annotations: dict[str, Any] = {".": {}, "f:other": {}, WAKE: {}}
    created = entry(
        {
            "f:metadata": {"f:annotations": annotations, "f:labels": {}},
            "f:spec": {"f:replicas": {}, "f:template": TEMPLATE},
        }
    )
    assert hand_over([created, CONTROLLER]) == [
        entry(
            {
                "f:metadata": {"f:annotations": {".": {}, "f:other": {}}, "f:labels": {}},
                "f:spec": {"f:template": TEMPLATE},
            },
            "session-operator",
            "Apply",
        ),
        entry({"f:metadata": {"f:annotations": {WAKE: {}}}, "f:spec": {"f:replicas": {}}}),
        CONTROLLER,
    ]


def test_replicas_of_another_manager_stay_with_it():
    created = entry({"f:spec": {"f:template": TEMPLATE}})
    assert hand_over([SCALED, created]) == [SCALED, entry(created["fieldsV1"], "session-operator", "Apply")]


def test_fields_are_handed_over_once():
    created = entry({"f:spec": {"f:replicas": {}, "f:template": TEMPLATE}})
    assert not is_handed_over([created, CONTROLLER, SCALED])
    after = hand_over([created])
    assert is_handed_over(after)


def test_the_patch_fails_if_the_deployment_has_changed_meanwhile():
    created = entry({"f:spec": {"f:replicas": {}}})
    [test, replace] = hand_over_patch({"metadata": {"resourceVersion": "7", "managedFields": [created]}})
    assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert (replace["op"], replace["path"]) == ("replace", "/metadata/managedFields")


OPERATOR = entry({"f:spec": {"f:template": TEMPLATE}}, "session-operator", "Apply")
EDITED = entry(
    {
        "f:metadata": {"f:annotations": {"f:note": {}}},
        "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:nodeSelector": {}}}},
    },
    "kubectl-edit",
)


def test_what_a_person_wrote_into_the_spec_is_handed_over_so_that_an_apply_removes_it():
    assert hand_over([OPERATOR, EDITED, SCALED]) == [
        entry(
            {"f:spec": {"f:template": {"f:spec": {"f:containers": {}, "f:nodeSelector": {}}}}},
            "session-operator",
            "Apply",
        ),
        entry({"f:metadata": {"f:annotations": {"f:note": {}}}, "f:spec": {"f:replicas": {}}}, "kubectl-edit"),
        SCALED,
    ]
    assert editors(hand_over([OPERATOR, EDITED])) == []


def test_the_editors_of_a_deployment():
    note = entry({"f:metadata": {"f:annotations": {"f:note": {}}}}, "kubectl-annotate")
    scaled = entry({"f:spec": {"f:replicas": {}}}, "kubectl")
    assert editors([OPERATOR, EDITED]) == ["kubectl-edit"]
    assert editors([OPERATOR, CONTROLLER, SCALED, note, scaled]) == []
