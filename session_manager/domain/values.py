"""Shapes that have no class of their own: a JSON object, and the form of ids."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]  # a JSON object

# A UUIDv4 and a UUID of any version, as callers may spell them. Ids are stored in lower case.
SESSION_ID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
MESSAGE_ID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_STORED = re.compile(SESSION_ID.lower())


def is_session_id(text: str) -> bool:
    """Return True for a UUIDv4 in its usual form, which is lower case."""
    return _STORED.fullmatch(text) is not None
