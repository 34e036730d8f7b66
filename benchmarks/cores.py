"""Pinning: the servers under test run on one core, everything that loads and answers them on another."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def available() -> list[int]:
    """Return the cores that this process may use. Empty if the system cannot pin."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


class Cores:
    """``servers`` and ``client`` are core numbers. If both are None, nothing is pinned and the figures say little."""

    def __init__(self) -> None:
        cores = available()
        pinned = len(cores) > 1
        self.servers: int | None = cores[0] if pinned else None
        self.client: int | None = cores[1] if pinned else None

    @contextmanager
    def on_servers(self) -> Iterator[None]:
        """Processes started inside this context run on the servers' core, and stay there."""
        with _pinned(self.servers):
            yield

    def pin_client(self) -> None:
        """Pin this process, and the processes that it starts from now on, to the client's core."""
        _pin(self.client)


@contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    before = set(available())
    _pin(core)
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def _pin(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
