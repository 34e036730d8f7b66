"""Real servers for tests, started from PATH or from wheels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _Shared:
    """Processes that outlive single tests on purpose. Use ``with shared(pid)`` in a fixture of the whole run."""

    def __init__(self) -> None:
        self.pids: set[int] = set()

    @contextmanager
    def __call__(self, pid: int) -> Iterator[None]:
        self.pids.add(pid)
        try:
            yield
        finally:
            self.pids.discard(pid)


shared = _Shared()
