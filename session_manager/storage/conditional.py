"""One small object in a place that is replaced only if its version is still the expected one.

A ``version`` is opaque: the generation on GCS, the ETag on S3 (so contents have to differ), a number in a folder. It
never comes back once the object was replaced.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from session_manager.storage.files import sync_folder, write_file

if TYPE_CHECKING:
    from session_manager.storage.places import Place


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


class FolderObject:
    """An object in a folder, which may be on a network file system.

    It consists of files ``<name>.<number>``; the one with the highest number is the object.

    A new number is taken by a hard link, which fails if the name exists. No lock is held meanwhile, so a process that
    is stopped in the middle stops no other. The highest file is never removed, so numbers do not come back. A process
    that links a number which was removed long ago finds a higher one beside it, and has lost.
    """

    def __init__(self, place: Place, name: str) -> None:
        path = Path(place.path(name))
        self._errors = place.errors
        self._folder = path.parent
        self._prefix = f"{path.name}."

    def read(self) -> Versioned | None:
        with self._errors():
            while highest := self._highest():
                with suppress(FileNotFoundError):  # replaced by a higher one
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
            for old in self._numbers():
                if old < number:
                    with suppress(OSError):
                        self._path(old).unlink()
        return str(number)

    def close(self) -> None:
        pass

    def _link(self, content: bytes, path: Path) -> None:
        """Store the whole content under that name, on disk. Raises Contended if another process was quicker."""
        draft = self._folder / f".{secrets.token_hex(8)}"
        try:
            write_file(draft, [content])
            path.hardlink_to(draft)
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
