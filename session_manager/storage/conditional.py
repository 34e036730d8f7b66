"""One small object that is replaced only by who knows its present version: what a lease needs of a place.

::

    read()                       → (content, version), or None where there is none
    replace(content, version)    → the new version; Contended when the object's version is another one by now

A ``version`` is opaque, and never comes back once the object was replaced: the generation of GCS, the ETag of S3 (so
contents have to differ), a number for a folder.  ``version`` None: only if there is no object yet.  A replace
whose answer was lost may have happened.  All methods block, and raise ``StorageError`` where the place fails.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from session_manager.storage.files import sync_folder
from session_manager.storage.places import Place


class Contended(Exception):
    """The object has another version than the one that was to be replaced."""


@dataclass(frozen=True, slots=True)
class Versioned:
    content: bytes
    version: str


class LeaseObject(Protocol):
    """See the module for what the methods promise."""

    def read(self) -> Versioned | None: ...

    def replace(self, content: bytes, version: str | None) -> str: ...

    def close(self) -> None: ...


class FolderObject:
    """In a folder, which may be on a network file system: ``<name>.<number>``, of which the highest counts.

    A new number is taken by a hard link, which fails where the name exists. No lock is held meanwhile, so a process
    that is stopped in the middle stops nobody else. The highest is never removed, so numbers do not come back; one who
    links a number that was removed long ago finds a higher one beside it, and has lost.
    """

    def __init__(self, place: Place, name: str) -> None:
        path = Path(place.path(name))
        self._errors = place.errors
        self._folder = path.parent
        self._prefix = f"{path.name}."

    def read(self) -> Versioned | None:
        with self._errors():
            while highest := self._highest():
                with contextlib.suppress(FileNotFoundError):  # then a higher one is there
                    return Versioned(self._path(highest).read_bytes(), str(highest))
        return None

    def replace(self, content: bytes, version: str | None) -> str:
        number = int(version or 0) + 1
        with self._errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._highest() != number - 1:
                raise Contended
            self._link(content, self._path(number))
            if self._highest() != number:
                self._path(number).unlink(missing_ok=True)
                raise Contended
            self._remove_below(number)
        return str(number)

    def close(self) -> None:
        pass

    def _link(self, content: bytes, path: Path) -> None:
        """The whole content under that name, on disk. Contended: somebody was quicker."""
        draft = self._folder / f".{secrets.token_hex(8)}"
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            raise Contended from None
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(self._folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._prefix}{number}"

    def _numbers(self) -> list[int]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        ends = (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        return [int(end) for end in ends if end.isdecimal()]

    def _highest(self) -> int:
        return max(self._numbers(), default=0)

    def _remove_below(self, number: int) -> None:
        for old in self._numbers():
            if old < number:
                with contextlib.suppress(OSError):
                    self._path(old).unlink()


def open_lease_object(place: Place, name: str, timeout: float, endpoint: str | None = None) -> LeaseObject:
    """``timeout`` in seconds for each call; ``endpoint`` of an emulator of Google Cloud Storage."""
    if place.is_local:
        return FolderObject(place, name)
    if place.url.startswith("s3://"):
        from session_manager.storage.conditional_s3 import S3Object  # noqa: PLC0415  an optional dependency

        return S3Object(place, name, timeout)
    from session_manager.storage.conditional_gcs import GcsObject  # noqa: PLC0415  an optional dependency

    return GcsObject(place, name, timeout, endpoint)
