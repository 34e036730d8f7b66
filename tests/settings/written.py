"""Defaults as they would be written in the environment, and what a setting means."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo


def written(default: Any) -> str:
    """Return the text that stands for this default; empty if nothing is set by default."""
    if default in (None, (), {}):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:.12g}" if isinstance(default, float) else str(default).replace(" per 1 ", "/")


def meaning(field: FieldInfo) -> str:
    """Return the text below a setting in one line."""
    return " ".join(str(field.description).split())
