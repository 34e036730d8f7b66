"""The folders of the process runtime. The names of a session's files and folders contain its id.

::

    <data>/homes/<id>/       HOME of its pods; removed with the session
    <data>/tmp/<uid>/        TMPDIR of one pod, named after the pod; removed with the pod
    <data>/pods/<uid>/       HOME of a pod that was warm, and its output before a session had it; removed with the pod
    <data>/logs/<id>.log     output of its pods, and one older file <id>.log.1
    <data>/run/<id>.json     record of its current pod; <uid>.json of a pod without a session
    <data>/runtime.lock      locked by the owner of the pods
    <data>/machine           a random id; locked by every front door of the folder
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.values import is_session_id


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a session and its pod, or of a pod without a session."""

    home: Path
    log: Path
    older_log: Path
    record: Path

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of output, oldest first. Bytes that are not UTF-8 are replaced."""
        text = b""
        for file in (self.older_log, self.log):
            with suppress(FileNotFoundError):
                text += file.read_bytes()
        lines = text.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
        return lines[-count:] if text and count > 0 else []


class Folders:
    """All folders have mode 700. None is created before ``make``."""

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
        """Create the folders. Raises StartupFailure if one cannot be written to."""
        try:
            self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("homes", "tmp", "pods", "logs", "run"):
                folder = self._data / name
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)
        except OSError as error:
            raise StartupFailure(f"DATA_DIR: cannot write to {self._data} ({error.strerror})") from None

    def of(self, session: str) -> Paths:
        """Return the paths of a session. Raises InvalidInput unless it is a UUIDv4: no other text becomes a path."""
        if not is_session_id(session):
            raise InvalidInput("a session's id is a UUIDv4 in lower case", "uuid")
        return Paths(
            home=self._data / "homes" / session,
            log=self._data / "logs" / f"{session}.log",
            older_log=self._data / "logs" / f"{session}.log.1",
            record=self._data / "run" / f"{session}.json",
        )

    def of_pod(self, uid: str, session: str | None) -> Paths:
        """Return the paths of a pod with a HOME of its own. ``session`` is None if it has no session."""
        own = self.pods / uid
        home = own / "home"
        if session is not None:
            return replace(self.of(session), home=home)
        return Paths(home, own / "output.log", own / "output.log.1", self.run / f"{uid}.json")

    def tmp(self, uid: str) -> Path:
        return self._data / "tmp" / uid

    def prepare(self, paths: Paths, uid: str) -> None:
        """Create HOME and TMPDIR of a pod. The HOME of a session is kept as its earlier pods left it; TMPDIR is new."""
        if paths.home.parent != self.homes:
            paths.home.parent.mkdir(mode=0o700)
        paths.home.mkdir(exist_ok=True, mode=0o700)
        self.tmp(uid).mkdir(mode=0o700)

    def remove_pod(self, uid: str) -> None:
        """Remove the files that belong to the pod alone."""
        remove_folder(self.tmp(uid))
        remove_folder(self.pods / uid)

    def clear_pods(self) -> None:
        """Remove the files of pods whose owner was killed."""
        for parent in (self._data / "tmp", self.pods):
            for folder in parent.iterdir():
                remove_folder(folder)

    def remove(self, session: str) -> None:
        """Remove every file of a session that has no pod."""
        paths = self.of(session)
        remove_folder(paths.home)
        for file in (paths.log, paths.older_log):
            file.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder that a pod has filled: without following links, even if read-only, at any depth."""
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
    """Remove an entry, moving the folders in it up to ``root``: so neither recursion nor paths grow with the depth."""
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
