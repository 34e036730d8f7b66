"""What the operator takes over of a Deployment that the scaler has made, and what stays the scaler's."""

from __future__ import annotations

from typing import Any

from session_operator.fields import hand_over, hand_over_patch, is_handed_over

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


def test_replicas_and_the_wake_stay_the_scalers():
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


def test_replicas_that_became_somebody_elses_stay_theirs():
    created = entry({"f:spec": {"f:template": TEMPLATE}})
    assert hand_over([SCALED, created]) == [SCALED, entry(created["fieldsV1"], "session-operator", "Apply")]


def test_it_is_done_once():
    created = entry({"f:spec": {"f:replicas": {}, "f:template": TEMPLATE}})
    assert not is_handed_over([created, CONTROLLER, SCALED])
    after = hand_over([created])
    assert is_handed_over(after)


def test_the_patch_fails_for_a_deployment_that_was_written_meanwhile():
    created = entry({"f:spec": {"f:replicas": {}}})
    [test, replace] = hand_over_patch({"metadata": {"resourceVersion": "7", "managedFields": [created]}})
    assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert (replace["op"], replace["path"]) == ("replace", "/metadata/managedFields")
