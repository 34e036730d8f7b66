"""Where the process runtime keeps things: everything of one session under names made of its id.

::

    <data>/homes/<id>/       HOME of its pods; goes with the session
    <data>/tmp/<uid>/        TMPDIR of one pod, under the pod's id; goes with the pod
    <data>/pods/<uid>/       of a pod whose class has no HOME that is kept: its HOME, and what it printed before a
                             session had it; goes with the pod
    <data>/logs/<id>.log     what its pods printed, and one older file <id>.log.1
    <data>/run/<id>.json     the record of its present pod; <uid>.json of one that no session has
    <data>/runtime.lock      held by the owner of the pods
    <data>/machine           a random id; held by every front door of the folder
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.ids import UUID4

_UUID4 = re.compile(UUID4)


@dataclass(frozen=True, slots=True)
class Paths:
    """Of a session with its pod, or of a pod that no session has."""

    home: Path
    log: Path
    older_log: Path
    record: Path


class Folders:
    """All folders have mode 700. Nothing is touched before ``make``."""

    def __init__(self, data: Path) -> None:
        self._data = data.resolve()

    @property
    def lock(self) -> Path:
        return self._data / "runtime.lock"

    @property
    def machine(self) -> Path:
        return self._data / "machine"

    @property
    def run(self) -> Path:
        return self._data / "run"

    @property
    def homes(self) -> Path:
        return self._data / "homes"

    @property
    def pods(self) -> Path:
        return self._data / "pods"

    def make(self) -> None:
        """StartupFailure when it cannot be written to."""
        try:
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("homes", "tmp", "pods", "logs", "run"):
                folder = self._data / name
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)
        except OSError as error:
            raise StartupFailure(f"Cannot write to {self._data}: {error.strerror}") from None

    def of(self, session: str) -> Paths:
        """InvalidInput for what is no UUIDv4 in its usual form: no path is ever made of anything else."""
        if not _UUID4.fullmatch(session):
            raise InvalidInput("a session's id is a UUIDv4 in lower case", "uuid")
        return Paths(
            home=self._data / "homes" / session,
            log=self._data / "logs" / f"{session}.log",
            older_log=self._data / "logs" / f"{session}.log.1",
            record=self._data / "run" / f"{session}.json",
        )

    def of_pod(self, uid: str, session: str | None) -> Paths:
        """Of a pod with a HOME of its own; None: no session has it."""
        own = self.pods / uid
        home = own / "home"
        if session is not None:
            return replace(self.of(session), home=home)
        return Paths(home, own / "output.log", own / "output.log.1", self.run / f"{uid}.json")

    def tmp(self, uid: str) -> Path:
        return self._data / "tmp" / uid

    def prepare(self, paths: Paths, uid: str) -> None:
        """Make the folders that a pod starts with. A session's HOME is left as its pods left it.

        TMPDIR is empty: no other pod, also of its session, ever gets the same.
        """
        if paths.home.parent != self.homes:
            paths.home.parent.mkdir(mode=0o700)
        paths.home.mkdir(exist_ok=True, mode=0o700)
        self.tmp(uid).mkdir(mode=0o700)

    def remove_pod(self, uid: str) -> None:
        """Remove what goes with the pod."""
        remove_folder(self.tmp(uid))
        remove_folder(self.pods / uid)

    def clear_pods(self) -> None:
        """Remove what pods of killed owners left."""
        for parent in (self._data / "tmp", self.pods):
            for folder in parent.iterdir():
                remove_folder(folder)

    def remove(self, session: str) -> None:
        """Remove every file of a session whose pods are gone."""
        paths = self.of(session)
        remove_folder(paths.home)
        for file in (paths.log, paths.older_log):
            file.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove what a pod may have filled: links are not followed, folders may be read-only, and of any depth."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.chmod(0o700)
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            while entries := _entries(root):
                for entry in entries:
                    _remove_entry(root, entry)
        finally:
            os.close(root)
        folder.rmdir()


def _entries(folder: int) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _remove_entry(root: int, entry: os.DirEntry[str]) -> None:
    """The folders in a folder are moved up to ``root`` first: neither recursion nor a path grows with the depth."""
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.name, dir_fd=root)
        return
    os.chmod(entry.name, 0o700, dir_fd=root)
    folder = os.open(entry.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    try:
        for inner in _entries(folder):
            if inner.is_dir(follow_symlinks=False):
                os.chmod(inner.name, 0o700, dir_fd=folder)  # or it could not be moved
                os.rename(inner.name, uuid4().hex, src_dir_fd=folder, dst_dir_fd=root)
            else:
                os.unlink(inner.name, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(entry.name, dir_fd=root)
