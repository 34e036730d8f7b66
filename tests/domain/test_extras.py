"""Errors name the extra that is missing, and no text installs the project that has the name of ours on PyPI."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from session_manager.domain.extras import needs_extra

ROOT = Path(__file__).parents[2]
FOLDERS = ("session_manager", "session_operator", "docs", "scripts", "examples")
TEXTS = [ROOT / "README.md", *(each for folder in FOLDERS for each in (ROOT / folder).rglob("*.*") if each.is_file())]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_sentence():
    assert needs_extra("PostgreSQL", "postgres") == (
        "PostgreSQL needs the extra postgres: install Session Manager with it, pip install '.[postgres]' in its folder"
    )


def test_no_text_installs_a_project_of_pypi_in_place_of_this_one():
    named = re.compile(r"session-manager\[|pip install session-manager")
    found = [path for path in TEXTS if path.suffix in (".py", ".md", ".sh", ".yaml") and named.search(path.read_text())]
    assert found == []


def test_every_extra_that_is_asked_for_exists():
    sources = [path.read_text() for path in TEXTS if path.suffix == ".py"]
    asked = {name for source in sources for name in re.findall(r'needs_extra\(.*["\'](\w+)["\']\)', source)}
    assert {"postgres", "backup"} <= asked <= set(EXTRAS)
