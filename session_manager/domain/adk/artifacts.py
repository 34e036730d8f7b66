"""Artifacts: their media types, their URIs, and references from one to another."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from session_manager.domain.adk.model import USER, AdkKey
from session_manager.domain.errors import InvalidInput

SCHEME = "artifact://"
LONGEST_URI = 8192  # characters: each name at its longest, and every character of it escaped
MAX_REFERENCES = 5  # followed by one look-up
# A segment ends before the name of the next one between slashes.
_SEGMENT = "((?:(?!/(?:apps|artifacts|sessions|users|versions)/).)+?)"
_ADDRESS = re.compile(
    f"{SCHEME}apps/{_SEGMENT}/users/{_SEGMENT}(?:/sessions/{_SEGMENT})?/artifacts/(.+)/versions/([0-9]{{1,10}})"
)
# ADK's rewind saves this as the version of an artifact that did not exist at that time.
REMOVED = {"inline_data": {"mime_type": "application/octet-stream", "data": ""}}


class ArtifactAddress(NamedTuple):
    """The parts of an artifact's URI. ``session`` is None if all sessions of the user share the artifact."""

    app: str
    user_id: str
    session: str | None
    name: str
    version: int


def address(key: AdkKey, name: str, version: int) -> str:
    """Return the canonical URI of a version."""
    of_session = "" if name.startswith(USER) else f"/sessions/{key.id}"
    return f"{SCHEME}apps/{key.app}/users/{key.user_id}{of_session}/artifacts/{name}/versions/{version}"


def media_type(part: dict[str, Any], key: AdkKey) -> str | None:
    """Return the media type of a part to save, or None if it has none. Raises InvalidInput if it is not an artifact."""
    if part.get("inline_data") is not None:
        return _media_type(part["inline_data"])
    if part.get("text") is not None:
        return "text/plain"
    if part.get("file_data") is None:
        raise InvalidInput("artifact: expected inline data, text, or the URI of a file", "artifact")
    if reference_of(part) is None:
        return _media_type(part["file_data"])
    follow(part, key)
    return None


def _media_type(data: dict[str, Any]) -> str | None:
    found = data.get("mime_type")
    return None if found is None else str(found)


def reference_of(part: dict[str, Any]) -> str | None:
    """Return the artifact URI that the part refers to, or None if it is not a reference."""
    uri = (part.get("file_data") or {}).get("file_uri")
    return uri if isinstance(uri, str) and uri.startswith(SCHEME) else None


def follow(part: dict[str, Any], key: AdkKey) -> ArtifactAddress:
    """Return the target of a reference. Raises InvalidInput unless it belongs to this session or its user."""
    uri = reference_of(part) or ""
    match = _ADDRESS.fullmatch(uri) if len(uri) <= LONGEST_URI else None
    if match is None:
        raise InvalidInput("artifact: the reference is not a valid artifact URI", "artifact")
    app, user_id, session, name, version = match.groups()
    if (app, user_id) != (key.app, key.user_id) or session not in (None, key.id):
        raise InvalidInput("artifact: the reference points outside the session", "artifact")
    return ArtifactAddress(app, user_id, session, name, int(version))
