"""Whether a live database can lie in a folder: by the kind of its file system, and by trying what SQLite will do there.

The kind alone does not say it. A FUSE file system may do all or nothing of it, a container's root may be a 9p mount
that does all of it, and the next bucket driver has a name that nobody knows yet. So two processes try: one renames and
flushes a file, takes a lock and maps a file into memory as SQLite does with its WAL; the other must find the lock taken
and see through its own map what the first one wrote.
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
_PATIENCE = 10.0  # seconds for a file system that does not answer
_SIZE = 32 * 1024  # bytes: of SQLite's shared memory, one region
_MARK, _ANSWER = b"first", b"other"
_known: dict[int, str | None] = {}


def unsuitable(folder: Path) -> str | None:
    """Why no live database can lie in ``folder``, in words that follow "It is on"; None when it can.

    Tried once for each file system and process: it takes the start of a process.
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
        return f"a mounted bucket ({kind}), which is no place for a live database"
    return None


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds ``path``, of a table like /proc/self/mounts; None when unknown."""
    found: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        source, point, kind, *_ = line.split(" ")
        if kind == "fuse" and source in BUCKETS:  # some give their name there
            kind = f"fuse.{source}"
        if path.is_relative_to(point.replace("\\040", " ")):
            # Of two on the same point the later one covers the other.
            found = max((len(point), kind), found, key=lambda mount: mount[0])
    return found[1]


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text("utf-8", "replace")
    except OSError:
        return ""


class _Missing(Exception):
    """Something that SQLite needs is not there; the text completes "a file system that …"."""


def tried(folder: Path) -> str | None:
    """What the file system of ``folder`` cannot do, in words; None when it can do all of it."""
    try:
        scratch = Path(_or_missing("where no folder can be made", lambda: tempfile.mkdtemp(prefix=".try-", dir=folder)))
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
        raise _Missing("where a renamed file is not the one that was there")


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
    """A lock and a map, and another process that looks at both."""
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
        raise _Missing(f"that does not answer within {_PATIENCE:g} seconds") from None
    except OSError as error:
        raise _Missing(f"that could not be tried: no process can be started ({error.strerror})") from None
    if done.returncode or done.stdout.strip():
        raise _Missing(done.stdout.strip() or "where another process fails")
