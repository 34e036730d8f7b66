"""The API server takes every object of the chart, with strict validation and Pod Security ``restricted``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.helm import written
from tests.chart.test_grid import BASES
from tests.chart.test_knobs import KNOBS
from tests.cluster.release import CHART, helm, needs_release

pytestmark = needs_release

Json = dict[str, Any]

SERVED = ("v1", "apps/v1", "policy/v1", "autoscaling/v2", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1")
KINDS: Json = {
    "affinity": {"podAntiAffinity": {}},
    "runtimeClassName": "",
    "priorityClassName": "",
    "initContainers": [],
    "sidecars": [],
}
ALL: tuple[Json, ...] = (*BASES, {"pods": {**KNOBS, **KINDS}}, {"openshift": True}, {"fullnameOverride": "yes"})


@pytest.mark.parametrize("values", ALL, ids=lambda values: ",".join(values) or "defaults")
def test_the_api_server_takes_every_object(namespace: str, values: Json, tmp_path: Path):
    file = tmp_path / "values.json"
    file.write_text(written({**values, "sessions": {"namespace": namespace, "createNamespace": False}}), "utf-8")
    where = ["--namespace", namespace, "--kube-version", "1.34.0", "--api-versions", "keda.sh/v1alpha1"]
    text = helm("template", "sm", str(CHART), *where, "--values", str(file))
    items = [item for item in yaml.safe_load_all(text) if item and item["apiVersion"] in SERVED]
    assert len(items) > 10
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": items + pods(items)})
    command = ["kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-"]
    done = subprocess.run(command, input=document, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # Pod Security warns of templates, and refuses pods


def pods(items: list[Json]) -> list[Json]:
    """A pod of each template, which the level of the namespace applies to."""
    found = []
    for item in items:
        if item["kind"] in {"Deployment", "StatefulSet"}:
            metadata = {**item["metadata"], "name": f"{item['metadata']['name']}-pod", "annotations": {}}
            spec = json.loads(json.dumps(item["spec"]["template"]["spec"]))
            spec.pop("serviceAccountName", None)  # it is created by the same list, which is a dry run
            for each in item["spec"].get("volumeClaimTemplates", []):
                spec["volumes"].append({"name": each["metadata"]["name"], "emptyDir": {}})
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return found
