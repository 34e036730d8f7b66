"""The id of a machine: a random one in its data folder, in a file that every front door there keeps open."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process.folders import Folders

_ID = re.compile(rb"[0-9a-f]{32}")


class MachineFile:
    """The file, with a shared lock on it. The lock ends with the process."""

    def __init__(self, data_dir: Path) -> None:
        self._folders = Folders(data_dir)
        self._descriptor: int | None = None

    def open(self) -> str:
        """Return the id, which is made if there is none. Raises StartupFailure if the folder cannot be written to."""
        self._folders.make()
        try:
            self._descriptor = os.open(self._folders.machine, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            return _id(self._descriptor)
        except OSError as error:
            raise StartupFailure(f"Cannot use {self._folders.machine}: {error.strerror}") from None

    def close(self) -> bool:
        """Close the file. Return True if it was open, and no other front door of this folder has it open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        try:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False
        finally:
            os.close(descriptor)


def _id(descriptor: int) -> str:
    """Read the id, or let one process write it if the file is empty or a crash has cut it off."""
    found = os.pread(descriptor, 64, 0)
    if not _ID.fullmatch(found):
        fcntl.lockf(descriptor, fcntl.LOCK_EX)  # independent of flock's
        found = os.pread(descriptor, 64, 0)
        if not _ID.fullmatch(found):
            found = uuid4().hex.encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, found, 0)
        fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return found.decode()
