"""Opening a conditional object in a place, with the client library of its service."""

from __future__ import annotations

from session_manager.storage.conditional import ConditionalObject
from session_manager.storage.conditional_folder import FolderObject
from session_manager.storage.places import Place


def open_conditional(place: Place, name: str, timeout: float, endpoint: str | None = None) -> ConditionalObject:
    """Open the object ``name``. ``timeout`` in seconds per call; ``endpoint`` of a Google Cloud Storage emulator."""
    if place.is_local:
        return FolderObject(place, name)
    if place.url.startswith("s3://"):
        from session_manager.storage.conditional_s3 import S3Object  # noqa: PLC0415  an optional dependency

        return S3Object(place, name, timeout)
    from session_manager.storage.conditional_gcs import GcsObject  # noqa: PLC0415  an optional dependency

    return GcsObject(place, name, timeout, endpoint)
