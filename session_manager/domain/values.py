"""Shapes that have no class of their own: a JSON object, and the form of ids and users."""

from __future__ import annotations

import re
from typing import Any

from session_manager.domain.errors import InvalidInput

Json = dict[str, Any]  # a JSON object

# A UUIDv4 and a UUID of any version, as callers may spell them. Ids are stored in lower case.
SESSION_ID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
MESSAGE_ID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
LONGEST_ID = 128  # characters of an app, a user or an ADK session, as many as ADK's columns take
_STORED = re.compile(SESSION_ID.lower())


def is_session_id(text: str) -> bool:
    """Return True for a UUIDv4 in its usual form, which is lower case."""
    return _STORED.fullmatch(text) is not None


def valid_user_id(value: object) -> str:
    """Return the trimmed id: 1 to 128 printable characters. Raises InvalidInput, which names the field."""
    if not isinstance(value, str):
        raise InvalidInput("user_id: must be a string", "user_id")
    trimmed = value.strip()
    if not 1 <= len(trimmed) <= LONGEST_ID or not trimmed.isprintable():
        raise InvalidInput(f"user_id: must be 1 to {LONGEST_ID} printable characters", "user_id")
    return trimmed
