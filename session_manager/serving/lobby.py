"""All open connections of a front door, and which of them has to go when there is no more room.

A connection is refused if its address has as many as one may have. If the front door is full, an address with more than
its share is refused too. For any other one a connection that has been idle for the longest time is closed, so a full
front door still answers everybody else, its supervisor too. Answers that wait for their readers hold bytes: without
room for one, the client that has not read for the longest time is cut off.
"""

from __future__ import annotations

import logging
import resource
import time
from typing import Protocol

from session_manager.domain.errors import Overloaded, RateLimited
from session_manager.people.addresses import Proxies, caller_name
from session_manager.people.room import RETRY_AFTER, Room
from session_manager.settings.capacity import CapacitySettings

log = logging.getLogger(__name__)

SPARE = 64  # connections beyond the limit, for addresses with few, when none is idle
OTHER_FILES = 256  # of the process: Redis, the database, pods
MOST_HEADS = 128  # unfinished heads of one address
MOST_LINGERING = 256  # connections that only wait until their client has read a refusal
LOG_EVERY = 10.0  # seconds between two lines about the same limit


class Guest(Protocol):
    """A connection. ``origin``: its address, or None for a trusted proxy. ``holder``: of what it holds, if known."""

    origin: str | None
    holder: str | None

    def cut_off(self) -> None:
        """Close the connection at once and drop what it holds."""


class Lobby:
    def __init__(self, room: Room, settings: CapacitySettings, proxies: Proxies) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES - SPARE
        self._most = max(1, min(settings.max_connections, files)) if files > 0 else settings.max_connections
        self._most_here = settings.max_connections_per_address
        self._room = room
        self._proxies = proxies
        self._guests: set[Guest] = set()
        self._here: dict[str, int] = {}  # connections by address
        self._idle: dict[Guest, None] = {}  # the one that has been idle for the longest time comes first
        self._heads: dict[Guest, int] = {}  # bytes of unfinished heads
        self._heads_here: dict[str, int] = {}
        self._unread: dict[Guest, tuple[str | None, int]] = {}  # holder and bytes, the slowest reader first
        self._lingering: set[Guest] = set()
        self._logged: dict[str, float] = {}

    def origin(self, address: str) -> str | None:
        """Return the address or network whose connections are counted together, None for a trusted proxy."""
        return None if self._proxies.trusts(address) else caller_name(address)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def enter(self, guest: Guest) -> None:
        """Raises RateLimited or Overloaded for a connection that must go again."""
        here = self._here.get(guest.origin, 0) if guest.origin is not None else 0
        if here >= self._most_here:
            self._note("MAX_CONNECTIONS_PER_ADDRESS", guest)
            raise RateLimited(f"at most {here} connections of one address", RETRY_AFTER)
        if len(self._guests) >= self._most and not self._make_room(here):
            self._note("MAX_CONNECTIONS", guest)
            raise Overloaded(retry_after=RETRY_AFTER)
        self._guests.add(guest)
        self._idle[guest] = None
        if guest.origin is not None:
            self._here[guest.origin] = here + 1

    def _make_room(self, here: int) -> bool:
        if here * len(self._here) > len(self._guests):
            return False
        longest = next(iter(self._idle), None)
        if longest is not None:
            longest.cut_off()
            self.leave(longest)
        return len(self._guests) < self._most + SPARE

    def leave(self, guest: Guest) -> None:
        """Forget a connection and what it holds. This may be repeated."""
        self._lingering.discard(guest)
        self.busy(guest)
        self.head_done(guest)
        self.has_read(guest)
        if guest in self._guests:
            self._guests.remove(guest)
            if guest.origin is not None:
                _one_less(self._here, guest.origin)

    def busy(self, guest: Guest) -> None:
        self._idle.pop(guest, None)

    def idle(self, guest: Guest) -> None:
        """No request of this connection is being answered."""
        if guest in self._guests:
            self._idle[guest] = None

    def may_linger(self, guest: Guest) -> bool:
        """Return True if the connection may stay open for a moment after its answer."""
        if len(self._lingering) >= MOST_LINGERING:
            return False
        self._lingering.add(guest)
        return True

    # -- unfinished heads ----------------------------------------------------------------------------------------------

    def hold_head(self, guest: Guest, size: int) -> None:
        """Hold ``size`` bytes for the unfinished head of this connection. Raises RateLimited or Overloaded."""
        before = self._heads.get(guest)
        if before is None and guest.origin is not None:
            here = self._heads_here.get(guest.origin, 0)
            if here >= MOST_HEADS:
                raise RateLimited(f"at most {here} unfinished requests of one address", RETRY_AFTER)
            self._heads_here[guest.origin] = here + 1
        self._heads[guest] = before or 0
        self._room.take(guest.origin, size - (before or 0))
        self._heads[guest] = size

    def head_done(self, guest: Guest) -> None:
        size = self._heads.pop(guest, None)
        if size is None:
            return
        if size:
            self._room.free(guest.origin, size)
        if guest.origin is not None:
            _one_less(self._heads_here, guest.origin)

    # -- slow readers --------------------------------------------------------------------------------------------------

    def waits_for_reader(self, guest: Guest, size: int) -> None:
        """``size`` bytes of an answer wait. Cut off the slowest readers while there is no room."""
        holder = guest.holder or guest.origin
        while True:
            try:
                self._room.take(holder, size)
            except RateLimited:
                slowest = next((each for each, (whose, _) in self._unread.items() if whose == holder), guest)
            except Overloaded:
                slowest = next(iter(self._unread), guest)
            else:
                self._unread[guest] = (holder, size)
                return
            self._note("BUFFER_BYTES", slowest)
            slowest.cut_off()
            self.leave(slowest)
            if slowest is guest:
                return

    def has_read(self, guest: Guest) -> None:
        held = self._unread.pop(guest, None)
        if held is not None:
            self._room.free(*held)

    def _note(self, limit: str, guest: Guest) -> None:
        """Log that a limit was reached, from time to time."""
        now = time.monotonic()
        if now - self._logged.get(limit, -LOG_EVERY) >= LOG_EVERY:
            self._logged[limit] = now
            extra = {"event": "front.full", "limit": limit, "address": guest.origin, "connections": len(self._guests)}
            log.warning("%s is reached", limit, extra=extra)


def _one_less(counts: dict[str, int], origin: str) -> None:
    counts[origin] -= 1
    if not counts[origin]:
        del counts[origin]
