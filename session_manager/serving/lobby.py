"""All open connections of a front door, and which of them has to go when there is no more room.

If an address has as many connections as one may have, its longest idle connection is closed for a new one, which may be
that of a neighbour behind the same NAT. Unfinished heads give way in the same manner. If the front door is full, an
address with more than its share is refused. For any other one the longest idle connection of all is closed, so a full
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
MOST_LINGERING_HERE = 16  # of one address
LOG_EVERY = 10.0  # seconds between two lines about the same limit


class Guest(Protocol):
    """A connection. ``origin``: its address, or None for a trusted proxy. ``holder``: of what it holds, if known."""

    origin: str | None
    holder: str | None

    def cut_off(self) -> None:
        """Close the connection at once and drop what it holds."""

    def refuse(self, error: Exception) -> None:
        """Answer the unfinished request with this error and close the connection."""


class _ByAddress:
    """Connections by address, the first one that came first. Those of trusted proxies are left out."""

    def __init__(self) -> None:
        self._guests: dict[str, dict[Guest, None]] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def add(self, guest: Guest) -> None:
        if guest.origin is not None:
            self._guests.setdefault(guest.origin, {})[guest] = None

    def discard(self, guest: Guest) -> None:
        here = self._guests.get(guest.origin) if guest.origin is not None else None
        if here is not None:
            here.pop(guest, None)
            if not here:
                del self._guests[guest.origin]  # type: ignore[arg-type]

    def count(self, origin: str | None) -> int:
        return len(self._guests.get(origin, ())) if origin is not None else 0

    def first(self, origin: str | None) -> Guest | None:
        here = self._guests.get(origin) if origin is not None else None
        return next(iter(here)) if here else None


class Lobby:
    def __init__(self, room: Room, settings: CapacitySettings, proxies: Proxies) -> None:
        self._most = _most_connections(settings.max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._most_here = settings.max_connections_per_address
        self._room = room
        self._proxies = proxies
        self._guests: set[Guest] = set()
        self._here = _ByAddress()
        self._idle: dict[Guest, None] = {}  # the one that has been idle for the longest time comes first
        self._idle_here = _ByAddress()
        self._heads: dict[Guest, int] = {}  # bytes of unfinished heads
        self._heads_here = _ByAddress()
        self._unread: dict[Guest, tuple[str | None, int]] = {}  # holder and bytes, the slowest reader first
        self._lingering: set[Guest] = set()
        self._lingering_here = _ByAddress()
        self._logged: dict[str, float] = {}

    def origin(self, address: str) -> str | None:
        """Return the address or network whose connections are counted together, None for a trusted proxy."""
        return None if self._proxies.trusts(address) else caller_name(address)

    # -- coming and going ----------------------------------------------------------------------------------------------

    def enter(self, guest: Guest) -> None:
        """Raises RateLimited or Overloaded for a connection that must go again."""
        here = self._here.count(guest.origin)
        if here >= self._most_here:
            self._note("MAX_CONNECTIONS_PER_ADDRESS", guest)
            if not self._close(self._idle_here.first(guest.origin)):
                raise RateLimited(f"at most {here} connections of one address", RETRY_AFTER)
        if len(self._guests) >= self._most and not self._make_room(here):
            self._note("MAX_CONNECTIONS", guest)
            raise Overloaded(retry_after=RETRY_AFTER)
        self._guests.add(guest)
        self._here.add(guest)
        self.idle(guest)

    def _make_room(self, here: int) -> bool:
        if here * len(self._here) > len(self._guests):
            return False
        self._close(next(iter(self._idle), None))
        return len(self._guests) < self._most + SPARE

    def _close(self, idle: Guest | None) -> bool:
        """Return True if there was a connection to close."""
        if idle is not None:
            idle.cut_off()
            self.leave(idle)
        return idle is not None

    def leave(self, guest: Guest) -> None:
        """Forget a connection and what it holds. This may be repeated."""
        self._lingering.discard(guest)
        self._lingering_here.discard(guest)
        self.busy(guest)
        self.head_done(guest)
        self.has_read(guest)
        if guest in self._guests:
            self._guests.remove(guest)
            self._here.discard(guest)

    def busy(self, guest: Guest) -> None:
        self._idle.pop(guest, None)
        self._idle_here.discard(guest)

    def idle(self, guest: Guest) -> None:
        """No request of this connection is being answered."""
        if guest in self._guests:
            self._idle[guest] = None
            self._idle_here.add(guest)

    def may_linger(self, guest: Guest) -> bool:
        """Return True if the connection may stay open for a moment after its answer."""
        if len(self._lingering) >= MOST_LINGERING or self._lingering_here.count(guest.origin) >= MOST_LINGERING_HERE:
            return False
        self._lingering.add(guest)
        self._lingering_here.add(guest)
        return True

    # -- unfinished heads ----------------------------------------------------------------------------------------------

    def hold_head(self, guest: Guest, size: int) -> None:
        """Hold ``size`` bytes for the unfinished head of this connection. Raises RateLimited or Overloaded.

        If its address has too many of them, the oldest one is refused.
        """
        before = self._heads.setdefault(guest, 0)
        self._heads_here.add(guest)
        oldest = self._heads_here.first(guest.origin)
        if oldest is not None and self._heads_here.count(guest.origin) > MOST_HEADS:
            oldest.refuse(RateLimited(f"at most {MOST_HEADS} unfinished requests of one address", RETRY_AFTER))
            self.head_done(oldest)
        self._room.take(guest.origin, size - before)
        self._heads[guest] = size

    def head_done(self, guest: Guest) -> None:
        size = self._heads.pop(guest, None)
        if size is None:
            return
        if size:
            self._room.free(guest.origin, size)
        self._heads_here.discard(guest)

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

    def cut_off_slowest(self) -> None:
        """Cut off the slowest reader, which may hold a long answer that it hardly reads."""
        slowest = next(iter(self._unread), None)
        if slowest is not None:
            self._note("BUFFER_BYTES", slowest)
            slowest.cut_off()
            self.leave(slowest)

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


def _most_connections(wanted: int, files: int) -> int:
    """Return how many connections ``files``, the limit of the process, leaves room for."""
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, files - OTHER_FILES - SPARE - MOST_LINGERING))
