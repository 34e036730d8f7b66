"""Lengths of time as people write them."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``15m``, ``2h`` or ``30d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no length of time; write for example 90s, 15m, 2h or 30d")
    return float(found[1]) * _UNITS[found[2]]
