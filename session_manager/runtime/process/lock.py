"""One owner of processes per data folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from session_manager.domain.errors import StartupFailure

POLL = 0.02


class OwnedByAnother(StartupFailure):
    """Another process holds the lock: wait for it to end."""


async def take_lock(path: Path, patience: float) -> int:
    """Lock the file and return its descriptor: whoever inherits that holds the lock too.

    Waits ``patience`` seconds, since the keeper of a killed owner needs a moment to end its pods. OwnedByAnother
    when the lock is still held then.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = asyncio.get_running_loop().time() + patience
    try:
        while not _try_lock(descriptor):
            if asyncio.get_running_loop().time() >= deadline:
                raise OwnedByAnother("The pods of this data folder are owned by another process")
            await asyncio.sleep(POLL)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
