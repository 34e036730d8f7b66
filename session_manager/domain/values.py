"""Names for shapes that have no class of their own."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]  # a JSON object
