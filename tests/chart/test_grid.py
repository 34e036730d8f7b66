"""Whatever the schema takes becomes valid objects, or is refused in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.chart import grid, schemas
from tests.chart.helm import CHART, needs_helm, run, written

pytestmark = needs_helm

Json = dict[str, Any]

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAMESPACE = "1e3"
# Each example starts helm, so one that fails is shown as it is.
QUICK: Json = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}
SERVED = ("keda.sh/v1alpha1", "security.openshift.io/v1")
BASES: tuple[Json, ...] = (
    {},
    {"scaler": "native", "redis": {"enabled": False}, "externalRedis": {"host": "r", "tls": True}},
    {"redis": {"existingSecret": "r"}, "keda": {"existingSecret": "k"}, "postgresql": {"existingSecret": "p"}},
    {
        "postgresql": {"enabled": False},
        "frontDoor": {"replicas": 1, "autoscaling": {"enabled": False}},
        "backup": {"bucket": "b"},
    },
    {
        "ingress": {"enabled": True},
        "gateway": {"enabled": True, "parentRefs": [{"name": "g"}]},
        "frontDoor": {"autoscaling": {"enabled": True}},
        "monitoring": {"serviceMonitor": True, "prometheusRule": True, "dashboard": True},
        "postgresql": {"enabled": False},
        "database": {"uri": "postgresql://db/x"},
    },
)


class OnceLoader(yaml.CSafeLoader):
    """Refuses a map that has a key twice, of which PyYAML and Kubernetes would take the last."""


def _once(loader: OnceLoader, node: yaml.MappingNode) -> Json:
    found: dict[Hashable, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        assert key not in found, f"{key!r} twice {node.start_mark}"
        found[key] = loader.construct_object(value_node, deep=True)
    return found  # type: ignore[return-value]


for tag in ("merge", "value"):  # << and =, which mean more as keys only
    OnceLoader.add_constructor(f"tag:yaml.org,2002:{tag}", lambda _, node: node.value)
# Go reads 1e3 as a number; PyYAML would not.
OnceLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("+-0123456789")
)
OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)


@cache
def problems(document: str) -> tuple[str, ...]:
    """Return the faults of an object, given as JSON. Cached, because most objects are the same in every rendering."""
    item = json.loads(document)
    metadata = item["metadata"]
    found = schemas.problems(item)
    if found:
        return tuple(found)
    found += [f"name {name}" for name in (metadata["name"], metadata.get("namespace", "x")) if not NAME.fullmatch(name)]
    template = item.get("spec", {}).get("template", {})
    for labels in (metadata.get("labels"), template.get("metadata", {}).get("labels")):
        found += [f"label {value}" for value in (labels or {}).values() if not LABEL.fullmatch(value)]
    for container in template.get("spec", {}).get("containers", []):
        names = [each["name"] for each in container.get("env", [])]
        found += [f"{name} twice" for name in set(names) if names.count(name) > 1]
    return tuple(found)


def rendered(values: Json, folder: Path) -> list[Json] | None:
    """The objects, or None if the chart refuses these values in a sentence."""
    file = folder / "values.json"
    file.write_text(written(values), "utf-8")
    served = [word for each in SERVED[: 1 + len(values) % 2] for word in ("--api-versions", each)]
    where = ["--namespace", NAMESPACE, "--kube-version", "1.34.0"]
    done = run("template", "yes", str(CHART), *where, "-f", str(file), *served)
    if done.returncode != 0:
        assert "execution error at (session-manager/templates/" in done.stderr, done.stderr
        return None
    return [item for item in yaml.load_all(done.stdout, OnceLoader) if item]


def check(values: Json, folder: Path) -> bool:
    """Render these values and check every object. Return False if the chart refuses them in a sentence."""
    items = rendered(values, folder)
    found = [problem for item in items or [] for problem in problems(json.dumps(item, default=str, sort_keys=True))]
    assert found == []
    return items is not None


LEAVES = list(grid.leaves())
GROUPS = [LEAVES[start::25] for start in range(25)]


@pytest.mark.parametrize("group", range(len(GROUPS)))
@settings(max_examples=2, **QUICK)
@given(data=st.data())
def test_every_value(group: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    values: Json = {}
    for path, schema in GROUPS[group]:
        values = grid.joined(values, grid.placed(path, data.draw(grid.values(schema, path[-1]), ".".join(path))))
    check(values, tmp_path_factory.mktemp("values"))


@settings(max_examples=50, **QUICK)
@given(data=st.data())
def test_pairs_of_values(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    values = data.draw(st.sampled_from(BASES))
    for _ in range(2):
        path, schema = data.draw(st.sampled_from(LEAVES))
        values = grid.joined(values, grid.placed(path, data.draw(grid.values(schema, path[-1]), ".".join(path))))
    check(values, tmp_path_factory.mktemp("values"))


@pytest.mark.parametrize("base", BASES, ids=str)
def test_the_bases_themselves(base: Json, tmp_path: Path):
    assert check(base, tmp_path)


# Control characters but tabs and line breaks are refused in variables; passwords are one line.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)


@settings(max_examples=25, **QUICK)
@given(text=st.one_of(st.sampled_from([trap for trap in grid.TRAPS if trap]), TEXT))
def test_any_text_arrives_as_it_is(text: str, tmp_path_factory: pytest.TempPathFactory):
    variables = {"env": {"ENVIRONMENT": text}, "extraEnv": [{"name": "MINE", "value": text}]}
    servers = ("redis", "postgresql")
    values: Json = {"pods": {"podAnnotations": {"mine": text}}, "frontDoor": variables, "ingress": {"enabled": True}}
    values |= {name: {"password": text} for name in servers} | {"scaler": "native"}
    items = rendered(values, tmp_path_factory.mktemp("values"))
    assert items is not None
    found = {(item["kind"], item["metadata"]["name"]): item for item in items}
    template = found["Deployment", "session-manager"]["spec"]["template"]
    env = {each["name"]: each.get("value") for each in template["spec"]["containers"][0]["env"]}
    assert (env["ENVIRONMENT"], env["MINE"], template["metadata"]["annotations"]["mine"]) == (text, text, text)
    secrets = [found["Secret", name]["stringData"] for name in ("redis-credentials", "postgres-credentials")]
    assert (secrets[0]["redis-password"], secrets[1]["postgres-password"]) == (text, text)
