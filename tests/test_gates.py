"""The gates of conftest.py and of the configuration catch leaks and warnings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEAKS = """
import asyncio
import subprocess
import sys
import warnings
from pathlib import Path

PIDS = Path(__file__).with_name("pids").open("a")
START = "import subprocess; print(subprocess.Popen(['sleep', '1000'], stdout=subprocess.DEVNULL).pid)"
kept = []


async def test_task():
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))


def test_child():
    kept.append(subprocess.Popen(["sleep", "1000"]))
    print(kept[-1].pid, file=PIDS, flush=True)


def test_orphan(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", START], cwd=tmp_path, stdout=PIDS, check=True)


def test_warning():
    warnings.warn("old", DeprecationWarning)


async def test_clean(tmp_path):
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    subprocess.run(["true"], cwd=tmp_path, check=True)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return pytest's report about tests that leak."""
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "test_leaks.py").write_text(LEAKS)
    configured: list[str | Path] = [
        "-c",
        ROOT / "pyproject.toml",
        "--rootdir",
        ROOT,
        "-p",
        "tests.conftest",
        "-p",
        "no:schemathesis",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *configured,
        "-rfEp",
        "--basetemp",
        folder / "tmp",
        folder / "test_leaks.py",
    ]
    yield subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for pid in (folder / "pids").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize(
    ("test", "outcome", "words"),
    [
        ("task", "ERROR", "tasks outlived the test:"),
        ("child", "ERROR", "processes outlived the test:"),
        ("orphan", "ERROR", "processes outlived the test:"),
        ("warning", "FAILED", "DeprecationWarning: old"),
    ],
)
def test_a_leak_fails_its_test(report: str, test: str, outcome: str, words: str) -> None:
    assert re.search(rf"^{outcome} \S*::test_{test} - .*{words}", report, re.MULTILINE), report


def test_a_clean_test_passes(report: str) -> None:
    assert re.search(r"^PASSED \S*::test_clean$", report, re.MULTILINE)
    assert re.search(r"^ERROR \S*::test_clean", report, re.MULTILINE) is None
