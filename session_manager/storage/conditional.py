"""One small object in a place that is replaced only if its version is still the expected one.

A ``version`` is opaque: the generation on GCS, the ETag on S3 (so contents have to differ), a number in a folder. It
never comes back once the object was replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Contended(Exception):
    """The version of the object is not the expected one."""


@dataclass(frozen=True, slots=True)
class Versioned:
    content: bytes
    version: str


class ConditionalObject(Protocol):
    """All methods block, and raise StorageError if the place fails."""

    def read(self) -> Versioned | None:
        """Return the content with its version, or None if the object does not exist."""
        ...

    def replace(self, content: bytes, version: str | None) -> str:
        """Replace this version, or create the object if ``version`` is None, and return the new version.

        Raises Contended if the object has another version. After a StorageError it may have been replaced.
        """
        ...

    def close(self) -> None: ...
