"""The lock of a data folder: one process owns its pods."""

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
    """Lock the file and return its descriptor. Processes that inherit the descriptor hold the lock too.

    Waits ``patience`` seconds, since the keeper of a killed owner needs a moment to end its pods. Raises OwnedByAnother
    if the lock is still held after that.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = asyncio.get_running_loop().time() + patience
    try:
        while not _try_lock(descriptor):
            if asyncio.get_running_loop().time() >= deadline:
                raise OwnedByAnother("Another process owns the pods of this data folder")
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
