"""The folders of the process runtime, and the lock of the process that owns the pods.

The names of a session's files and folders contain its id.

::

    <data>/homes/<id>/       HOME of its pods; removed with the session
    <data>/tmp/<uid>/        TMPDIR of one pod, named after the pod; removed with the pod
    <data>/pods/<uid>/       HOME of a pod whose class has warm pods, and its output before a session had it; removed
                             with the pod
    <data>/logs/<id>.log     output of its pods, and one older file <id>.log.1
    <data>/run/<id>.json     record of its current pod; <uid>.json of a pod without a session
    <data>/runtime.lock      locked by the owner of the pods
    <data>/machine           a random id; locked by every front door of the folder
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.values import is_session_id
from session_manager.runtime.process.keeper import older

LOCK_POLL = 0.02
REMOVE_TRIES = 10


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a session and its pod, or of a pod without a session."""

    home: Path
    log: Path
    record: Path

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of output, oldest first. Bytes that are not UTF-8 are replaced."""
        text = b""
        for file in (older(self.log), self.log):
            with suppress(FileNotFoundError):
                text += file.read_bytes()
        lines = text.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
        return lines[-count:] if text and count > 0 else []


class Folders:
    """All folders have mode 700. None is created before ``make``."""

    def __init__(self, data: Path) -> None:
        self._data = data = data.resolve()
        self.lock = data / "runtime.lock"
        self.machine = data / "machine"
        self.run = data / "run"
        self.homes = data / "homes"
        self.pods = data / "pods"
        self.tmp = data / "tmp"
        self.logs = data / "logs"

    def make(self) -> None:
        """Create the folders. Raises StartupFailure if one cannot be written to."""
        try:
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.homes, self.tmp, self.pods, self.logs, self.run):
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)
        except OSError as error:
            raise StartupFailure(f"DATA_DIR: cannot write to {self._data} ({error.strerror})") from None

    def of(self, session: str) -> Paths:
        """Return the paths of a session. Raises InvalidInput unless it is a UUIDv4: no other text becomes a path."""
        if not is_session_id(session):
            raise InvalidInput("a session's id is a UUIDv4 in lower case", "uuid")
        return Paths(self.homes / session, self.logs / f"{session}.log", self.run / f"{session}.json")

    def of_pod(self, uid: str, session: str | None) -> Paths:
        """Return the paths of a pod with a HOME of its own. ``session`` is None if it has no session."""
        own = self.pods / uid
        if session is not None:
            return replace(self.of(session), home=own / "home")
        return Paths(own / "home", own / "output.log", self.run / f"{uid}.json")

    def prepare(self, paths: Paths, uid: str) -> None:
        """Create HOME and TMPDIR of a pod. The HOME of a session is kept as its earlier pods left it; TMPDIR is new."""
        paths.home.parent.mkdir(exist_ok=True, mode=0o700)
        paths.home.mkdir(exist_ok=True, mode=0o700)
        (self.tmp / uid).mkdir(mode=0o700)

    def remove_pod(self, uid: str) -> None:
        """Remove the files that belong to the pod alone."""
        remove_folder(self.tmp / uid)
        remove_folder(self.pods / uid)

    def clear_pods(self) -> None:
        """Remove the files of pods whose owner was killed."""
        for parent in (self.tmp, self.pods):
            for folder in parent.iterdir():
                remove_folder(folder)

    def remove(self, session: str) -> None:
        """Remove every file of a session that has no pod."""
        paths = self.of(session)
        remove_folder(paths.home)
        for file in (paths.log, older(paths.log)):
            file.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that a pod has filled: without following links, even if read-only, at any depth.

    Whatever a process adds meanwhile is removed too.
    """
    for attempt in range(1, REMOVE_TRIES + 1):
        try:
            _remove(folder)
            return
        except OSError:
            if attempt == REMOVE_TRIES:
                raise


def _remove(folder: Path) -> None:
    """Remove the folder. Raises OSError if an entry changes after it was listed.

    Nested folders move up to ``folder`` first, so neither recursion nor paths grow with the depth.
    """
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    root = _open(folder)
    try:
        while entries := _entries(root):
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _empty(entry.name, root)
                    os.rmdir(entry.name, dir_fd=root)
                else:
                    os.unlink(entry.name, dir_fd=root)
    finally:
        os.close(root)
    folder.rmdir()


def _empty(name: str, root: int) -> None:
    """Remove the files in a folder of ``root``, and move the folders in it to ``root``."""
    folder = _open(name, root)
    try:
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                os.close(_open(entry.name, folder))  # it cannot be moved while it is read-only
                os.rename(entry.name, uuid4().hex, src_dir_fd=folder, dst_dir_fd=root)
            else:
                os.unlink(entry.name, dir_fd=folder)
    finally:
        os.close(folder)


def _open(folder: Path | str, parent: int | None = None) -> int:
    """Open a folder and make it writable. Raises OSError if it is a link or a file by now."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        descriptor = os.open(folder, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(folder, 0o700, dir_fd=parent)
        descriptor = os.open(folder, flags, dir_fd=parent)
    os.fchmod(descriptor, 0o700)
    return descriptor


def _entries(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


class OwnedByAnother(StartupFailure):
    """Another process holds the lock: wait for it to end."""


async def take_lock(path: Path, patience: float) -> int:
    """Lock the file and return its descriptor. Processes that inherit the descriptor hold the lock too.

    Waits ``patience`` seconds, since the keeper of a killed owner needs a moment to end its pods. Raises OwnedByAnother
    if the lock is still held after that.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
    try:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            if time.monotonic() >= deadline:
                raise OwnedByAnother("Another process owns the pods of this data folder")
            await asyncio.sleep(LOCK_POLL)
    except BaseException:
        os.close(descriptor)
        raise
