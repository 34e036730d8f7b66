"""Opaque cursors of lists: URL-safe text for the key of the last row."""

from __future__ import annotations

import base64
import binascii

import orjson

from session_manager.domain.errors import InvalidInput


def encode(key: tuple[int | float | str, ...]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> tuple[int | float | str, ...]:
    """Return the key, whose parts are of ``kinds``. Raises InvalidInput for anything else."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = orjson.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise _invalid() from None
    fits = isinstance(key, list) and len(key) == len(kinds)
    if not fits or any(type(part) is not kind for part, kind in zip(key, kinds, strict=True)):
        raise _invalid()
    if any(isinstance(part, int) and not 0 <= part < 2**63 for part in key):
        raise _invalid()
    return tuple(key)


def _invalid() -> InvalidInput:
    return InvalidInput("cursor: not one that this server gave out", "cursor")
