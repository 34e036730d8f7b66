"""Defaults as they would be written in the environment."""

from __future__ import annotations

from typing import Any


def written(default: Any) -> str:
    """Return the text that stands for this default; empty if nothing is set by default."""
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:.12g}" if isinstance(default, float) else str(default).replace(" per 1 ", "/")
