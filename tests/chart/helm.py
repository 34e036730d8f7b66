"""helm as the tests call it: values in, objects out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "session-manager"
RELEASE, NAMESPACE = "sm", "prod"
KEDA = "keda.sh/v1alpha1"

Json = dict[str, Any]


def _find() -> str | None:
    cache_folder = Path(os.environ.get("LOCALKUBE_HOME", "~/.cache/localkube")).expanduser() / "bin"
    return shutil.which("helm") or shutil.which("helm", path=cache_folder)


HELM = _find()
needs_helm = [
    pytest.mark.chart,
    pytest.mark.skipif(
        HELM is None, reason="helm is neither on PATH nor built by hack/localkube (localkube build --helm)"
    ),
]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *words], capture_output=True, text=True, check=False, timeout=50)


@cache
def _render(values: str, served: tuple[str, ...], files: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    more = [word for each in served for word in ("--api-versions", each)]
    more += [word for each in files for word in ("--values", str(CHART / each))]
    where = ["--namespace", NAMESPACE, "--kube-version", "1.34.0"]
    return run("template", RELEASE, str(CHART), *where, "--set-json", values, *more)


class Objects:
    """What a rendering consists of."""

    def __init__(self, items: list[Json]) -> None:
        self.items = items

    def find(self, kind: str, name: str) -> Json:
        [found] = [each for each in self.items if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.items if each["kind"] == kind}

    def pod_specs(self) -> dict[str, Json]:
        """Every pod of the release, by kind and name."""
        found = {}
        for each in self.items:
            if each["kind"] == "Pod":
                found[f"Pod {each['metadata']['name']}"] = each["spec"]
            elif each["kind"] in {"Deployment", "StatefulSet", "Job"}:
                found[f"{each['kind']} {each['metadata']['name']}"] = each["spec"]["template"]["spec"]
        return found

    def env(self, kind: str, name: str) -> dict[str, Any]:
        """Variables of its first container: the value, or where it is read."""
        container = self.find(kind, name)["spec"]["template"]["spec"]["containers"][0]
        return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def _joined(values: Json) -> str:
    # --set-json takes name=value pairs, so each top-level value is one.
    return ",".join(f"{name}={json.dumps(value)}" for name, value in values.items()) or "crds={}"


def written(values: Json) -> str:
    """Values in JSON as YAML reads it: without surrogates for characters beyond 16 bits."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda found: f"\\U{ord(found[0]):08x}", text)


def render(values: Json | None = None, *, served: tuple[str, ...] = (KEDA,), files: tuple[str, ...] = ()) -> Objects:
    """The objects of a release ``sm`` in the namespace ``prod``; ``served``: kinds that the cluster knows."""
    done = _render(_joined(values or {}), served, files)
    assert done.returncode == 0, done.stderr
    return Objects([each for each in yaml.safe_load_all(done.stdout) if each])


def refusal(values: Json, *, served: tuple[str, ...] = (KEDA,)) -> str:
    """What helm says of values that it refuses."""
    done = _render(_joined(values), served, ())
    assert done.returncode != 0, "these values were taken"
    return done.stderr
