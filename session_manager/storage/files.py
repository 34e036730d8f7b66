"""Files that are on disk when they are said to be."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_file(path: Path, blocks: Iterable[bytes]) -> int:
    """A new file for its owner only, on disk when this returns its size."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123
        for block in blocks:
            file.write(block)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    return size


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in it is so after a power cut as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
