"""Programs that hack/test-tools builds with Go."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest


@cache
def tool(name: str) -> Path:
    """Return its path. If it is missing, the test is skipped, except in CI, where it fails."""
    made = Path(os.environ.get("SESSION_MANAGER_TOOLS", Path.home() / ".cache" / "session-manager" / "bin"))
    found = shutil.which(name) or shutil.which(name, path=made)
    if found is not None:
        return Path(found)
    if os.environ.get("CI") == "true":
        raise RuntimeError(f"{name} is missing: run hack/test-tools")
    pytest.skip(f"{name} is missing; hack/test-tools builds it with Go")


def litestream() -> Path:
    return tool("litestream")
