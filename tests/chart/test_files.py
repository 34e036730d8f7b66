"""What lies in the chart agrees with the code it is for. Needs no helm."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime

import yaml

import session_manager
from session_manager.api.metrics import Metrics as FrontDoorMetrics
from session_manager.backup.catalog import Manifest, new_name
from session_manager.backup.service import Stats
from session_manager.turns.kit import TurnTimes
from session_operator.health import Metrics as OperatorMetrics
from tests.chart.helm import CHART, ROOT
from tests.servers import crds

A_BACKUP = Manifest(
    name=new_name(datetime.now(UTC)),
    taken_at=datetime.now(UTC),
    engine="sqlite",
    schema_version=1,
    rows={},
    size=1,
    sha256="0" * 64,
    stored_size=1,
    stored_sha256="0" * 64,
    program="1",
    duration=0.1,
)
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def test_the_definitions_are_those_of_the_operator():
    for name in crds.FILES:
        ours = CHART / "files" / "crds" / name
        assert ours.read_bytes() == (ROOT / "operator/session_operator/crds" / name).read_bytes(), "make manifests"
    assert {path.name for path in (CHART / "files" / "crds").iterdir()} == set(crds.FILES)


def test_the_manifests_were_rendered_from_this_very_chart():
    names = [
        *CHART.rglob("*.yaml"),
        *CHART.rglob("*.tpl"),
        *CHART.rglob("*.sh"),
        ROOT / "hack" / "manifests-values.yaml",
    ]
    sources = b"".join(
        path.read_bytes() for path in sorted(names, key=lambda path: str(path.relative_to(ROOT)).encode())
    )
    checksum = f"Checksum: {hashlib.sha256(sources).hexdigest()[:16]}."
    rendered = {path for path in (ROOT / "k8s-manifests").rglob("*.yaml") if path.name != "redis-secret.yaml"}
    assert len(rendered) == 7
    assert {path for path in rendered if checksum in path.read_text().splitlines()[0]} == rendered, "make manifests"


def test_the_version_is_that_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == session_manager.__version__


def known_metrics() -> dict[str, set[str]]:
    """Every metric with its labels."""
    front_door, operator = (
        FrontDoorMetrics(TurnTimes(), None, Stats(A_BACKUP), health={"redis": None}),
        OperatorMetrics(),
    )
    front_door.request("GET", 200, 0.1)
    front_door.sessions.labels("awake").set(1)
    operator.started("answered", 0.1)
    return {
        family.name: {label for sample in family.samples for label in sample.labels}
        for registry in (front_door.registry, operator.registry)
        for family in registry.collect()
    }


def test_dashboard_and_rules_ask_for_metrics_and_labels_that_exist():
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions.append((CHART / "templates" / "monitoring.yaml").read_text())
    asked = re.findall(r"\b(session_(?:manager|operator)_[a-z_]+)({.*?[^}]}(?!}))?", "\n".join(expressions))
    assert len({name for name, _ in asked}) > 10
    known = known_metrics()
    for name, selector in asked:
        family = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
        labels = set(re.findall(r"([a-z_]+)=", selector))
        assert labels <= known[family] | {"namespace"}, name
