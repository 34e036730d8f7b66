"""Programs that tests need and that no wheel carries: built once by ``go install``, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from session_manager.backup.litestream import VERSION as LITESTREAM

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "session-manager" / "bin"


@cache
def litestream() -> Path:
    """The version that the image has. Skips the test where there is neither it nor Go."""
    return _go_tool("litestream", f"github.com/benbjohnson/litestream/cmd/litestream@v{LITESTREAM}")


def _go_tool(name: str, package: str) -> Path:
    path = CACHE / name
    if path.exists():
        return path
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"{name} needs Go to be built: {package}")
    environment = {**os.environ, "GOBIN": str(CACHE), "CGO_ENABLED": "0"}
    subprocess.run([go, "install", "-trimpath", "-ldflags=-s -w", package], env=environment, check=True)
    return path


if __name__ == "__main__":
    print(litestream())
