"""The live notes that wait for a watcher of a session."""

from __future__ import annotations

import asyncio
from collections import deque

import orjson

from session_manager.activity.protocol import FeedNote

MAX_WAITING = 1000
MAX_WAITING_BYTES = 4 * 1024 * 1024  # a few of the largest deltas that an agent may stream


class WaitingNotes(asyncio.Queue[FeedNote]):
    """A bounded queue: a watcher that does not keep up loses notes, so that the process does not run out of memory."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def offer(self, note: bytes) -> None:
        """Add the note, which is JSON, if there is room for it."""
        if self.qsize() < MAX_WAITING and self._bytes + len(note) <= MAX_WAITING_BYTES:
            self._sizes.append(len(note))
            self._bytes += len(note)
            self.put_nowait(orjson.loads(note))

    def _get(self) -> FeedNote:
        self._bytes -= self._sizes.popleft()
        return super()._get()
