from __future__ import annotations

from tests.api.conftest import front, start

__all__ = ["front", "start"]
