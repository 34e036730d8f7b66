"""Progress on stderr."""

from __future__ import annotations

import sys
from time import monotonic

_BEGAN = monotonic()


def say(line: str) -> None:
    """Print one line on stderr with the time since the start."""
    print(f"{monotonic() - _BEGAN:6.1f} s  {line}", file=sys.stderr, flush=True)
