"""Shapes that have no class of their own: a JSON object, and the form of ids.

An id of a user, an app or an ADK session is part of paths, of artifacts' URIs and of file names in agents. It may have
spaces, slashes and any printable Unicode, and is one percent-encoded segment of a path.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from session_manager.domain.errors import InvalidInput

Json = dict[str, Any]  # a JSON object

# A UUIDv4 and a UUID of any version, as callers may spell them. Ids are stored in lower case.
SESSION_ID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
MESSAGE_ID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
LONGEST_ID = 128  # characters of an app, a user or an ADK session, as many as ADK's columns take
_DOTS = frozenset({"", ".", ".."})  # clients and proxies remove such segments of a path, even encoded ones
_RESERVED = frozenset({"apps", "artifacts", "sessions", "users", "versions"})  # they end an id in an artifact's URI
_STORED = re.compile(SESSION_ID.lower())


def is_session_id(text: str) -> bool:
    """Return True for a UUIDv4 in its usual form, which is lower case."""
    return _STORED.fullmatch(text) is not None


def valid_user_id(value: object, field: str = "user_id") -> str:
    """Return the id of a user. Raises InvalidInput, which names the field."""
    return valid_id(value, field)


def valid_id(value: object, field: str) -> str:
    """Return the id of a user, an app or an ADK session, unchanged: two spellings never become one id.

    Raises InvalidInput, which names the field, for an id that a path, a client or google-adk would change or refuse.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{field}: must be a string", field)
    reason = _unfit(value)
    if reason is not None:
        raise InvalidInput(f"{field}: {reason}", field)
    return value


def _unfit(text: str) -> str | None:
    """Return why the text is not an id, or None."""
    if not 1 <= len(text) <= LONGEST_ID or not text.isprintable():
        return f"must be 1 to {LONGEST_ID} printable characters"
    if text != text.strip():
        return "must not begin or end with a space"
    if not unicodedata.is_normalized("NFC", text):
        return "must be in Unicode's composed form; normalise it to NFC"
    parts = text.replace("\\", "/").split("/")
    if not _DOTS.isdisjoint(parts):
        return "must not be . or .., and no part of it between slashes may be empty, . or .."
    if len(parts) > 1 and not _RESERVED.isdisjoint(part.casefold() for part in parts):
        return f"no part of it between slashes may be {', '.join(sorted(_RESERVED))}"
    return None
