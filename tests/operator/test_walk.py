"""docs/architecture.md lists the files that one wake on Kubernetes crosses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## The walk of one wake\n(.*?)^## ", re.M | re.S)
PARTS = re.compile(r"^In the front door:\n(.*?)^In the operator:\n(.*?)^Then ", re.M | re.S)
STEP = re.compile(r"^\d+\. `([a-z_]+/[a-z_/]+\.py)`", re.M)
FILE = re.compile(r"`([a-z_]+/[a-z_/]+\.py)`")
[WALK] = SECTION.findall((ROOT / "docs" / "architecture.md").read_text("utf-8"))
[(FRONT_DOOR, OPERATOR)] = PARTS.findall(WALK)


def path_of(file: str) -> str:
    """Return the file's path in the repository. Paths without ``operator/`` are in session_manager/."""
    return file if file.startswith("operator/") else f"session_manager/{file}"


def imported_by(*modules: str) -> set[str]:
    """Return the paths of the product's modules that a fresh process with these imports has loaded."""
    code = f"import sys, {', '.join(modules)}; print(*(getattr(m, '__file__', 0) for m in sys.modules.values()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    paths = [Path(path) for path in shown.split()]
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_relative_to(ROOT)}


def test_every_file_of_the_walk_exists():
    files = FILE.findall(WALK)
    assert files
    assert [file for file in files if not (ROOT / path_of(file)).is_file()] == []


@pytest.mark.parametrize(
    ("steps", "modules"),
    [
        (FRONT_DOOR, ("session_manager.api.front", "session_manager.store.open", "session_manager.wiring.services")),
        (OPERATOR, ("session_operator.main",)),
    ],
)
def test_each_process_imports_the_files_of_its_steps(steps: str, modules: tuple[str, ...]):
    files = [path_of(file) for file in STEP.findall(steps)]
    assert len(files) == len(set(files)) == len(re.findall(r"^\d+\. ", steps, re.M))
    assert set(files) - imported_by(*modules) == set()
