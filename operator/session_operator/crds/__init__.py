"""The CustomResourceDefinitions of Session and SessionClass, as YAML beside this file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

FILES = ("sessions.yaml", "sessionclasses.yaml")


def load() -> list[dict[str, Any]]:
    """The definitions, ready to be applied."""
    return [yaml.safe_load((files(__name__) / name).read_text(encoding="utf-8")) for name in FILES]
