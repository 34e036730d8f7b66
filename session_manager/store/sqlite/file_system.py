"""Checks that a folder can hold a live database, by the type of its file system and by a trial.

The type alone is not enough: a FUSE file system may support everything or nothing, a container's root may be a 9p mount
that supports everything, and the next bucket driver has an unknown name. So two processes do what SQLite will do. One
renames and flushes a file, takes a lock, and maps a file into memory as SQLite does with its WAL. The other must find
the lock taken, and read through its own map what the first process wrote.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BUCKETS = frozenset({"gcsfuse", "s3fs", "mount-s3", "mountpoint-s3", "goofys", "geesefs", "blobfuse", "blobfuse2"})
_BUCKETS = BUCKETS | {"rclone", "cosfs", "ossfs", "juicefs", "seaweedfs"}
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "lustre", "afs", "fuse.glusterfs", "fuse.sshfs"})
_NEIGHBOUR = Path(__file__).with_name("neighbour.py")
_PATIENCE = 10.0  # seconds until a file system is considered unresponsive
_SIZE = 32 * 1024  # bytes; one region of SQLite's shared memory
_MARK, _ANSWER = b"first", b"other"
_known: dict[int, str | None] = {}


def unsuitable(folder: Path) -> str | None:
    """Return the reason why ``folder`` cannot hold a live database, as text after "It is on", or None if it can.

    A process tries each file system once, because a trial starts another process.
    """
    kind = file_system(folder.resolve(), _mounts())
    reason = _by_kind(kind)
    if reason is not None:
        return reason
    device = folder.stat().st_dev
    if device not in _known:
        _known[device] = tried(folder)
    missing = _known[device]
    return None if missing is None else f"a file system ({kind or 'unknown'}) {missing}"


def _by_kind(kind: str | None) -> str | None:
    if kind in _NETWORK:
        return f"a network file system ({kind})"
    if kind is not None and kind.removeprefix("fuse.") in _BUCKETS:
        return f"a mounted bucket ({kind}), which cannot hold a live database"
    return None


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system of ``path`` from a table like /proc/self/mounts, or None if it is unknown."""
    found: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        source, point, kind, *_ = line.split(" ")
        if kind == "fuse" and source in BUCKETS:  # some drivers have their name there
            kind = f"fuse.{source}"
        if path.is_relative_to(point.replace("\\040", " ")):
            # A later mount on the same point hides the earlier one.
            found = max((len(point), kind), found, key=lambda mount: mount[0])
    return found[1]


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""


class _Missing(Exception):
    """The file system lacks a feature that SQLite needs. The text completes "a file system …"."""


def tried(folder: Path) -> str | None:
    """Return what the file system of ``folder`` cannot do, as text after "a file system", or None if it can do all."""
    try:
        scratch = Path(
            _or_missing("where no folder can be created", lambda: tempfile.mkdtemp(prefix=".try-", dir=folder))
        )
        try:
            _rename_and_flush(scratch)
            _share(scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except _Missing as missing:
        return str(missing)
    return None


def _or_missing(words: str, step: Callable[[], T]) -> T:
    try:
        return step()
    except OSError as error:
        raise _Missing(f"{words} ({error.strerror})") from None


def _rename_and_flush(scratch: Path) -> None:
    old, new = scratch / "old", scratch / "new"
    _or_missing("where nothing is flushed to disk", lambda: _written(new, _MARK))
    _or_missing("where nothing is flushed to disk", lambda: _written(old, b""))
    _or_missing("where no file can be renamed", lambda: new.replace(old))
    _or_missing("where a folder cannot be flushed to disk", lambda: _flush(scratch))
    if old.read_bytes() != _MARK or new.exists():
        raise _Missing("where a renamed file does not replace the other one")


def _written(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _share(scratch: Path) -> None:
    """Take a lock and map a file, and let another process check both."""
    path = scratch / "shared"
    _written(path, bytes(_SIZE))
    with path.open("r+b") as file:
        shared = _or_missing(
            "without the shared memory maps that SQLite's WAL needs", lambda: mmap.mmap(file.fileno(), _SIZE)
        )
        with shared:
            _or_missing("without file locks", lambda: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 120))
            shared[: len(_MARK)] = _MARK
            _ask_the_neighbour(path)
            if shared[-len(_ANSWER) :] != _ANSWER:
                raise _Missing("where two processes that map a file do not share its memory")


def _ask_the_neighbour(path: Path) -> None:
    command = [sys.executable, "-I", "-S", str(_NEIGHBOUR), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise _Missing(f"that does not respond within {_PATIENCE:g} seconds") from None
    except OSError as error:
        raise _Missing(f"that could not be tested: no process can be started ({error.strerror})") from None
    if done.returncode or done.stdout.strip():
        raise _Missing(done.stdout.strip() or "where another process fails")
