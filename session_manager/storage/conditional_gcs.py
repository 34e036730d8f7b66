"""A conditional object in Google Cloud Storage, replaced under a generation precondition."""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Client

from session_manager.storage.conditional import Contended, Versioned
from session_manager.storage.places import Place


class GcsObject:
    """``timeout`` in seconds per call, ``endpoint`` the address of an emulator. Nothing is retried here."""

    def __init__(self, place: Place, name: str, timeout: float, endpoint: str | None = None) -> None:
        bucket, _, self._key = place.path(name).partition("/")
        self._errors = place.errors
        self._timeout = timeout
        with self._errors():
            # The project does not matter, since only objects are created.
            self._client = Client(project="-", **(_emulator(endpoint) if endpoint else {}))
        self._bucket = self._client.bucket(bucket)

    def read(self) -> Versioned | None:
        """Content and generation come in one answer of the server, so they belong together."""
        blob = self._bucket.blob(self._key)
        with self._errors():
            try:
                content = blob.download_as_bytes(timeout=self._timeout, retry=None)
            except NotFound:
                return None
        return Versioned(content, str(blob.generation))

    def replace(self, content: bytes, version: str | None) -> str:
        blob = self._bucket.blob(self._key)
        blob.cache_control = "no-store"
        with self._errors():
            try:
                blob.upload_from_string(
                    content,
                    content_type="application/json",
                    if_generation_match=int(version or 0),
                    timeout=self._timeout,
                    retry=None,
                )
            except PreconditionFailed:
                raise Contended from None
        return str(blob.generation)

    def close(self) -> None:
        self._client.close()


def _emulator(endpoint: str) -> dict[str, Any]:
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    return {"client_options": {"api_endpoint": url}, "use_auth_w_custom_endpoint": False}
