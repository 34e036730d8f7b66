"""The CustomResourceDefinitions of Session and SessionClass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import session_operator

FOLDER = Path(session_operator.__file__ or "").parent / "crds"
FILES = ("sessions.yaml", "sessionclasses.yaml")


def load() -> list[dict[str, Any]]:
    """Return the definitions, ready to be applied."""
    return [yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")) for name in FILES]
