"""Promises of the repository: ignored files, neutral content, one version, documented make targets."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import session_manager

ROOT = Path(__file__).parents[1]


def git(*args: str, **kwargs) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False, **kwargs)


@pytest.mark.parametrize(
    "path",
    [
        "data/sessions/x.db",
        "data/sessions/x.db-journal",
        "data/sessions/x.db-wal",
        "data/sessions/x.db-shm",
        ".env",
        ".env.local",
    ],
)
def test_databases_and_secrets_stay_out_of_git_and_images(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 0
    name = Path(path).name.replace("x.db", "*.db")
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert str(Path(path).with_name(name)) in lines


# The brackets keep these patterns from matching this file.
FOREIGN = re.compile(r"/[r]oot/|/[U]sers/|/home/[a-z]+/|/[w]ork/|[p]ypi\.org|[p]ythonhosted\.org")


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    found = []
    for name in git("ls-files", "-z").stdout.split("\0"):
        path = ROOT / name
        if not name or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {match.group()}" for match in FOREIGN.finditer(text)]
    assert found == []


def test_the_version_is_defined_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]).samefile(session_manager.__file__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", session_manager.__version__)


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    [phony_line] = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    phony = set(phony_line.split())
    documented = set(re.findall(r"^([a-z-]+):.*## \S", text, re.M))
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.M))
    assert documented == targets == phony
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^\s+\x1b\[1m([a-z-]+)", shown, re.M)) == targets
