"""Litestream, which hack/test-tools makes with Go."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest


@cache
def litestream() -> Path:
    """Its path; skips the test where it is not there and cannot be made."""
    made = Path(os.environ.get("SESSION_MANAGER_TOOLS", Path.home() / ".cache" / "session-manager" / "bin"))
    found = shutil.which("litestream") or shutil.which("litestream", path=made)
    if found is not None:
        return Path(found)
    if shutil.which("go") is None and os.environ.get("CI") != "true":
        pytest.skip("litestream needs Go, which is not installed here")
    raise RuntimeError("litestream is missing: run hack/test-tools")
