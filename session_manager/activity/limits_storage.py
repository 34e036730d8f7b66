"""Rate limits of the `limits` library over the pipelined link, with the same counters as its synchronous half.

Keys and windows are those of ``limits.storage.RedisStorage`` with the fixed-window strategy, so that a limit which is
enforced here and by slowapi has one counter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

from session_manager.activity.link import Link, Script
from session_manager.activity.resp import RedisError
from session_manager.domain.errors import ActivityUnavailable

PREFIX = "LIMITS"

_COUNT = Script(
    "limit",
    """
local count = redis.call('INCRBY', KEYS[1], ARGV[2])
if count == tonumber(ARGV[2]) then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  return {count, ARGV[1] * 1000}
end
return {count, redis.call('PTTL', KEYS[1])}
""",
)


class LinkStorage(Storage):
    """A storage for the asynchronous strategies of ``limits``. Raises ActivityUnavailable without Redis."""

    STORAGE_SCHEME = None

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return (RedisError, ActivityUnavailable)

    async def count(self, key: str, expiry: int, amount: int = 1) -> tuple[int, float]:
        """Add ``amount`` to a window of ``expiry`` seconds. Return its count, and the seconds until it ends."""
        count, milliseconds = await self._link.script(_COUNT, (expiry, amount), keys=(self._prefixed(key),))
        return int(count), max(milliseconds, 0) / 1000

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return (await self.count(key, expiry, amount))[0]

    async def get(self, key: str) -> int:
        return int(await self._link.execute(b"GET", self._prefixed(key)) or 0)

    async def get_expiry(self, key: str) -> float:
        """Return the end of the window, in Unix seconds."""
        milliseconds: int = await self._link.execute(b"PTTL", self._prefixed(key))
        return max(milliseconds, 0) / 1000 + time.time()

    async def check(self) -> bool:
        try:
            await self._link.execute(b"PING")
        except self.base_exceptions:
            return False
        return True

    async def clear(self, key: str) -> None:
        await self._link.execute(b"DEL", self._prefixed(key))

    async def reset(self) -> int:
        """Delete every counter, and return how many there were."""
        cursor, deleted = b"0", 0
        while True:
            cursor, keys = await self._link.execute(b"SCAN", cursor, b"MATCH", f"{PREFIX}:*", b"COUNT", 1000)
            if keys:
                deleted += await self._link.execute(b"DEL", *keys)
            if cursor == b"0":
                return deleted

    def _prefixed(self, key: str) -> str:
        return f"{PREFIX}:{key}"


@dataclass(frozen=True, slots=True)
class Hit:
    """``remaining``: calls left in this window, which ends in ``reset_after`` seconds."""

    allowed: bool
    remaining: int
    reset_after: float


class LinkLimiter(FixedWindowRateLimiter):
    """Fixed windows. ``take`` is a ``hit`` that also returns the end of the window, in the same round trip."""

    storage: LinkStorage

    def __init__(self, link: Link) -> None:
        super().__init__(LinkStorage(link))

    async def take(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> Hit:
        """Count a call. A rejected call is counted too, but does not prolong the window."""
        count, reset_after = await self.storage.count(item.key_for(*identifiers), item.get_expiry(), cost)
        return Hit(count <= item.amount, max(item.amount - count, 0), reset_after)
