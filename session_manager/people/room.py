"""The room that a front door has for its callers: for bytes, requests and streams, of all of them and of each.

Nothing waits for room. A caller that finds none gets an error at once, which says when to try again. A holder is the
key of a caller (``Caller.holder``), or of an address as long as the caller is not known. It is None for proxies, behind
which are many callers: they count in the total only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

from session_manager.domain.errors import Overloaded, RateLimited
from session_manager.settings.capacity import CapacitySettings

READS_AT_ONCE = 2  # of one caller: one is read from the database while the other is sent
SPARE = 1024 * 1024  # bytes that long answers leave to a caller: slices on their way to the socket
RETRY_AFTER = 2  # seconds; requests and answers that hold bytes are usually over by then


class Room:
    """``held``: the bytes that are held now."""

    def __init__(self, settings: CapacitySettings) -> None:
        self._settings = settings
        self._bytes: dict[str, int] = {}
        self._requests: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._reads: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.held = 0

    def take(self, holder: str | None, size: int) -> None:
        """Hold ``size`` more bytes. Raises RateLimited or Overloaded, and then holds nothing more."""
        mine = self._bytes.get(holder, 0) + size if holder is not None else 0
        if mine > self._settings.buffer_bytes_per_caller:
            raise RateLimited("this caller's requests and unread answers hold too many bytes", RETRY_AFTER)
        if self.held + size > self._settings.buffer_bytes:
            raise Overloaded(retry_after=RETRY_AFTER)
        if holder is not None:
            self._bytes[holder] = mine
        self.held += size

    def take_answer(self, holder: str, size: int) -> int:
        """Hold an answer until it is sent in slices, which need room too. Return the bytes that are held for it.

        One that is longer than a caller's room takes all of it. Raises RateLimited or Overloaded.
        """
        size = min(size, self._settings.buffer_bytes_per_caller - SPARE, self._settings.buffer_bytes - SPARE)
        self.take(holder, size + SPARE)
        self.free(holder, SPARE)
        return size

    def free(self, holder: str | None, size: int) -> None:
        self.held -= size
        if holder is not None and size:
            _less(self._bytes, holder, size)

    def enter(self, holder: str) -> None:
        """Begin a request. Raises RateLimited over the limit of one caller."""
        requests = self._requests
        now = requests.get(holder, 0)
        if now >= self._settings.max_requests_per_caller:
            raise RateLimited(f"at most {now} requests at the same time", RETRY_AFTER)
        requests[holder] = now + 1

    def leave(self, holder: str) -> None:
        _less(self._requests, holder, 1)

    def move(self, holder: str, to: str, size: int) -> None:
        """Count a request and its ``size`` bytes as another holder's. Raises RateLimited, and then moves nothing."""
        self.enter(to)
        self.free(holder, size)
        try:
            self.take(to, size)
        except RateLimited:
            self.take(holder, size)
            self.leave(to)
            raise
        self.leave(holder)

    def reads(self, holder: str) -> asyncio.Semaphore:
        """Return the turns of a caller at reading what may be large, so that its requests do not all hold theirs."""
        turns = self._reads.get(holder)
        if turns is None:
            turns = self._reads[holder] = asyncio.Semaphore(READS_AT_ONCE)
        return turns

    def begin_stream(self, holder: str) -> None:
        """Count a request of this holder as a stream. Raises RateLimited over the limit of one caller."""
        now = self._streams.get(holder, 0)
        if now >= self._settings.max_streams_per_caller:
            raise RateLimited(f"at most {now} streams at the same time", RETRY_AFTER)
        self._streams[holder] = now + 1
        _less(self._requests, holder, 1)

    def end_stream(self, holder: str) -> None:
        _less(self._streams, holder, 1)


@dataclass(frozen=True, slots=True)
class Share:
    """The room of one caller, for what waits on its streams."""

    room: Room
    holder: str

    def take(self, size: int) -> bool:
        """Hold ``size`` more bytes, or return False if there is no room for them."""
        try:
            self.room.take(self.holder, size)
        except (RateLimited, Overloaded):
            return False
        return True

    def free(self, size: int) -> None:
        self.room.free(self.holder, size)


def _less(counts: dict[str, int], holder: str, number: int) -> None:
    """Subtract, and forget a holder that holds nothing."""
    left = counts[holder] - number
    if left:
        counts[holder] = left
    else:
        del counts[holder]
