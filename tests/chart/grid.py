"""Values that the chart's schema takes, drawn with hypothesis: every value, alone and together with others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.chart.helm import CHART

Json = dict[str, Any]
Path = tuple[str, ...]

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text("utf-8"))
SCHEMA["definitions"]["apiKey"]["pattern"] = r"^([!-+\--~]{16,})?$"  # that the chart refuses others in a sentence

# What YAML, Go templates, shells and Kubernetes read in a way of their own.
TRAPS = [
    *(
        "yes",
        "no",
        "null",
        "~",
        "true",
        "1e3",
        "0123",
        "0x1f",
        "1_000",
        ".5",
        ".nan",
        "2026-01-01",
        "12:30:00",
        "10000000",
    ),
    *("*a", "&a", "!a", "%a", "@a", "`a", "a:b", "<<", "=", "|", ">", "?", "-", "#", "{", "}", "[", "]", ",", "'", '"'),
    *("", " ", "a: b", "a #b", "- a", "a\\b", "ü€😀\u2028", "a/b@c?d=e&f%20", "*.example.com"),
    *("$(HOME)", "${HOME}", "{{ .Values }}"),
]
# Objects that the schema leaves to Kubernetes.
OPEN: Json = {
    "labelSelector": [{"matchLabels": {"a": "yes"}}],
    "nodeAffinity": [
        {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["true"]}]}]
            }
        }
    ],
    "podAffinity": [{}],
    "podAntiAffinity": [
        {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}]}
    ],
    "valueFrom": [{"secretKeyRef": {"name": "mine", "key": "yes"}}, {"fieldRef": {"fieldPath": "metadata.name"}}],
    "podSecurityContext": [{}, {"fsGroup": 7}, {"supplementalGroups": [1, 2]}],
    "securityContext": [{}, {"readOnlyRootFilesystem": False}, {"runAsUser": 1000670000}],
}
AMOUNTS = ["1", 1, 0.5, "1.5Gi", "100m", "512mb", "1e3", 10000000, "512Mi"]


def resolved(schema: Json) -> Json:
    return SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def leaves(schema: Json = SCHEMA, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Every value of the chart, by its path. A map or list with free keys or items is one value."""
    schema = resolved(schema)
    if "properties" in schema:
        for name, each in schema["properties"].items():
            yield from leaves(each, (*path, name))
    else:
        yield path, schema


def values(schema: Json, name: str = "") -> st.SearchStrategy[Any]:
    """Return a strategy for values that the schema allows. ``name`` is the key, for objects that it leaves open."""
    schema = resolved(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "allOf" in schema:
        whole = Draft7Validator({**schema, "definitions": SCHEMA["definitions"]})
        return values(schema["allOf"][0], name).filter(whole.is_valid)
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        return st.one_of([values(each, name) for each in schema["anyOf"]])
    if name in OPEN:
        return st.sampled_from(OPEN[name])
    if name in ("requests", "limits"):
        return st.dictionaries(st.sampled_from(["cpu", "memory", "nvidia.com/gpu"]), st.sampled_from(AMOUNTS))
    if name == "size":
        return st.sampled_from(AMOUNTS)
    kinds = schema.get("type", "object")
    return st.one_of([_of_type(kind, schema, name) for kind in ([kinds] if isinstance(kinds, str) else kinds)])


def _of_type(kind: str, schema: Json, name: str) -> st.SearchStrategy[Any]:
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "number"):
        least = schema.get("minimum", 1 if "exclusiveMinimum" in schema else 0)
        most = schema.get("maximum", 20_000_000)
        return st.sampled_from(sorted({least, most, min(most, 10_000_000), min(most, least + 1)}))
    if kind == "string":
        return _strings(schema)
    if kind == "array":
        return st.lists(
            values(schema.get("items", {"type": "boolean"}), name), min_size=schema.get("minItems", 0), max_size=2
        )
    return _objects(schema)


def _strings(schema: Json) -> st.SearchStrategy[str]:
    pattern = re.compile(schema.get("pattern", ""))
    longest = schema.get("maxLength", 100_000)
    traps = [trap for trap in TRAPS if pattern.search(trap) and len(trap) >= schema.get("minLength", 0)]
    drawn = st.from_regex(pattern, fullmatch=True) if "pattern" in schema else st.text(st.characters(codec="utf-8"))
    found = drawn.filter(lambda text: schema.get("minLength", 0) <= len(text) <= longest)
    return st.one_of(st.sampled_from(traps), found) if traps else found


def _objects(schema: Json) -> st.SearchStrategy[Json]:
    if "properties" in schema:
        required = schema.get("required", [])
        parts = {name: values(each, name) for name, each in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: parts[name] for name in required},
            optional={name: each for name, each in parts.items() if name not in required},
        )
    keys = _strings(resolved(schema.get("propertyNames", {})))
    return st.dictionaries(keys, values(schema.get("additionalProperties", {"type": "string"})), max_size=2)


def placed(path: Path, value: Any) -> Json:
    """A tree with this value at this path."""
    for name in reversed(path):
        value = {name: value}
    return value


def joined(one: Json, other: Json) -> Json:
    """Two trees in one; the second has precedence."""
    found = dict(one)
    for name, value in other.items():
        below = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = joined(found[name], value) if below else value
    return found
