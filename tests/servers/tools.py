"""Programs that hack/test-tools makes with Go."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest


@cache
def tool(name: str) -> Path:
    """Its path. Where it is not there the test is skipped, but in CI, which has to have it."""
    made = Path(os.environ.get("SESSION_MANAGER_TOOLS", Path.home() / ".cache" / "session-manager" / "bin"))
    found = shutil.which(name) or shutil.which(name, path=made)
    if found is not None:
        return Path(found)
    if os.environ.get("CI") == "true":
        raise RuntimeError(f"{name} is missing: run hack/test-tools")
    pytest.skip(f"{name} is missing; hack/test-tools makes it, with Go")


def litestream() -> Path:
    return tool("litestream")
