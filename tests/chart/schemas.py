"""The schemas of the kinds that a release consists of, for checking its objects without a cluster.

    python -m tests.chart.schemas CRD.yaml…

writes them to kinds.json: from the OpenAPI document of a cluster (KUBECONFIG, or in localkube exec), and from the
definitions of kinds that it does not serve. HTTPRoute is in the Go module sigs.k8s.io/gateway-api (config/crd), and
ServiceMonitor and PrometheusRule are in github.com/prometheus-operator/prometheus-operator, in example.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

Json = dict[str, Any]

FILE = Path(__file__).with_name("kinds.json")
SERVED = {
    "api/v1": ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apis/apps/v1": ("Deployment", "StatefulSet"),
    "apis/admissionregistration.k8s.io/v1": ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    "apis/autoscaling/v2": ("HorizontalPodAutoscaler",),
    "apis/keda.sh/v1alpha1": ("TriggerAuthentication",),
    "apis/networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "apis/policy/v1": ("PodDisruptionBudget",),
    "apis/rbac.authorization.k8s.io/v1": ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
    "apis/apiextensions.k8s.io/v1": ("CustomResourceDefinition",),
}
PREFIX = "#/components/schemas/"
KEPT = {"type", "enum", "pattern", "required", "oneOf", "anyOf", "minimum", "maximum", "minLength", "maxLength"}
KEPT |= {"minItems", "maxItems"}


def problems(item: Json) -> list[str]:
    """Return where an object differs from the schema of its kind, as the API server would say with strict checks."""
    validator = _validators()[item["apiVersion"], item["kind"]]
    name = f"{item['kind']} {item['metadata']['name']}"
    return [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(item)]


@cache
def _validators() -> dict[tuple[str, str], Draft202012Validator]:
    document = json.loads(FILE.read_text("utf-8"))
    return {
        tuple(kind.rsplit("/", 1)): Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": document["$defs"]})
        for kind, name in document["kinds"].items()
    }


def _strict(schema: Json) -> Json:
    """Drop prose and defaults, and allow no fields but the known ones."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace(PREFIX, "#/$defs/")}
    if len(schema.get("allOf", ())) == 1:
        return _strict(schema["allOf"][0])
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {key: value for key, value in schema.items() if key in KEPT}
    if "items" in schema:
        found["items"] = _strict(schema["items"])
    if "properties" in schema:
        found["properties"] = {name: _strict(each) for name, each in schema["properties"].items()}
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        found["additionalProperties"] = _strict(more)
    elif "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found["additionalProperties"] = False
    return found


def _served() -> Iterator[tuple[str, str, Json]]:
    """Every kind that the cluster serves and a release may have, and all definitions that it needs."""
    for path, kinds in SERVED.items():
        done = subprocess.run(["kubectl", "get", "--raw", f"/openapi/v3/{path}"], capture_output=True, check=True)
        schemas = json.loads(done.stdout)["components"]["schemas"]
        version = path.partition("/")[2]
        for name, schema in schemas.items():
            group_kinds = schema.get("x-kubernetes-group-version-kind", [])
            ours = [each["kind"] for each in group_kinds if each["kind"] in kinds and len(group_kinds) == 1]
            yield (f"{version}/{ours[0]}" if ours else ""), name, schema


def _defined(files: list[str]) -> Iterator[tuple[str, str, Json]]:
    for file in files:
        spec = yaml.safe_load(Path(file).read_text("utf-8"))["spec"]
        kind = spec["names"]["kind"]
        [version, *_] = [each for each in spec["versions"] if each["storage"]]
        schema = version["schema"]["openAPIV3Schema"]
        metadata = {"$ref": f"{PREFIX}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
        schema["properties"]["metadata"] = metadata
        yield f"{spec['group']}/{version['name']}/{kind}", kind, schema


def _needed(roots: list[str], schemas: dict[str, Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            waiting += [part.split('"')[0] for part in json.dumps(schemas[name]).split("#/$defs/")[1:]]
    return dict(sorted(found.items()))


def write(files: list[str]) -> None:
    kinds, schemas = {}, {}
    for kind, name, schema in (*_served(), *_defined(files)):
        schemas[name] = _strict(schema)
        if kind:
            schemas[name]["properties"].pop("status", None)
            kinds[kind] = name
    needed = _needed(list(kinds.values()), schemas)
    # A definition a line, so that a change shows what changed.
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(each)}" for name, each in needed.items())
    sorted_kinds = json.dumps(dict(sorted(kinds.items())))
    FILE.write_text(f'{{"kinds": {sorted_kinds},\n"$defs": {{\n{lines}\n}}}}\n', "utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
