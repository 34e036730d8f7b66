"""Writing files so that they are on disk when the call returns."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

LEAST_ROOM = 1024 * 1024  # bytes; with less, writes that need a few pages more begin to fail


def write_file(path: Path, blocks: Iterable[bytes]) -> int:
    """Write a new file that only its owner can read, and return its size."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:  # noqa: PTH123
        for block in blocks:
            file.write(block)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    return size


def replace_file(path: Path, blocks: Iterable[bytes]) -> int:
    """Write a file under a temporary name, give it its own name once it is complete, and return its size."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        size = write_file(part, blocks)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def trouble_of(folder: Path) -> str | None:
    """Return why nothing can be written to a folder, as the end of a sentence, or None."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found.f_flag & os.ST_RDONLY:
        return "is on a read-only file system"
    if found.f_bavail * found.f_frsize < LEAST_ROOM:
        return "is on a full disk"
    return "is on a disk without free inodes" if found.f_files and not found.f_favail else None


def sync_folder(folder: Path) -> None:
    """Make creations, renames and removals in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
