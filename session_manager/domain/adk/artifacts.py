"""Artifacts: what kind a part is, how it is addressed, and where a reference to another one leads."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from session_manager.domain.adk.model import USER, AdkKey
from session_manager.domain.errors import InvalidInput

SCHEME = "artifact://"
MAX_REFERENCES = 5  # that one look-up follows
# A segment ends where the name of the next one stands between slashes.
_SEGMENT = "((?:(?!/(?:apps|artifacts|sessions|users|versions)/).)+?)"
_ADDRESS = re.compile(
    f"{SCHEME}apps/{_SEGMENT}/users/{_SEGMENT}(?:/sessions/{_SEGMENT})?/artifacts/(.+)/versions/([0-9]{{1,10}})"
)
# What a rewind saves as the version of an artifact that was not there yet.
REMOVED = {"inline_data": {"mime_type": "application/octet-stream", "data": ""}}


class Address(NamedTuple):
    """``session``: None for an artifact that all sessions of the user share."""

    app: str
    user_id: str
    session: str | None
    name: str
    version: int


def address(key: AdkKey, name: str, version: int) -> str:
    of_session = "" if name.startswith(USER) else f"/sessions/{key.id}"
    return f"{SCHEME}apps/{key.app}/users/{key.user_id}{of_session}/artifacts/{name}/versions/{version}"


def media_type(part: dict[str, Any], key: AdkKey) -> str | None:
    """Of a part to be saved under ``key``; None where it says nothing. InvalidInput for what is no artifact."""
    if part.get("inline_data") is not None:
        return _media_type(part["inline_data"])
    if part.get("text") is not None:
        return "text/plain"
    if part.get("file_data") is None:
        raise InvalidInput("artifact: must be inline data, a text, or the URI of a file", "artifact")
    if reference_of(part) is None:
        return _media_type(part["file_data"])
    follow(part, key)
    return None


def _media_type(data: dict[str, Any]) -> str | None:
    found = data.get("mime_type")
    return None if found is None else str(found)


def reference_of(part: dict[str, Any]) -> str | None:
    uri = (part.get("file_data") or {}).get("file_uri")
    return uri if isinstance(uri, str) and uri.startswith(SCHEME) else None


def follow(part: dict[str, Any], key: AdkKey) -> Address:
    """Where a reference leads. InvalidInput unless to an artifact of this session, or of its user."""
    match = _ADDRESS.fullmatch(reference_of(part) or "")
    if match is None:
        raise InvalidInput("artifact: the reference is none", "artifact")
    app, user_id, session, name, version = match.groups()
    if (app, user_id) != (key.app, key.user_id) or session not in (None, key.id):
        raise InvalidInput("artifact: the reference leads out of the session", "artifact")
    return Address(app, user_id, session, name, int(version))
