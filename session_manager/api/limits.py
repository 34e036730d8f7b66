"""Rate limits per caller, shared by all front doors through Redis.

slowapi counts the ordinary routes, in a thread, so that its synchronous call to Redis does not hold up the event loop.
The routes of turns use the asynchronous half of the same ``limits`` library on the pipelined connection. Its keys and
windows are those of ``limits.storage.RedisStorage`` with the fixed-window strategy, so that both have one counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from limits import RateLimitItem
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from session_manager.activity import resp
from session_manager.activity.link import Link, Script
from session_manager.domain.errors import ActivityUnavailable, RateLimited
from session_manager.settings import Settings

PREFIX = "LIMITS"
Count = Callable[[str], None]


class Limit(StrEnum):
    """The limits of routes. Without Redis, routes that count as READ go on, and the others answer 503."""

    CREATE = "create"
    WAKE = "wake"
    DELETE = "delete"
    CHAT = "chat"
    CHANGE = "change"
    READ = "read"


def _key_of(request: Request) -> str:
    key: str = request.scope["limit_key"]
    return key


def _request_of(key: str) -> Request:
    """Return a request as slowapi wants it: it looks at the path and at what ``_key_of`` returns."""
    return Request({"type": "http", "path": "/", "headers": [], "limit_key": key})


class Limits:
    """Count requests by the limit of their route and the key of their caller."""

    def __init__(self, settings: Settings, link: Link) -> None:
        timeouts = {"socket_timeout": settings.redis.timeout, "socket_connect_timeout": settings.redis.timeout}
        options: Any = {**timeouts, "retry": Retry(NoBackoff(), 0)}
        self._limiter = Limiter(key_func=_key_of, storage_uri=link.target.url, storage_options=options)
        self._chat = settings.limits.chat
        self._chat_limiter = LinkLimiter(link)
        rates = settings.limits
        self._counts = {
            Limit.CREATE: self._count_of("create", rates.create),
            Limit.WAKE: self._count_of("wake", rates.wake),
            Limit.DELETE: self._count_of("delete", rates.delete),
            Limit.CHANGE: self._count_of("default", rates.default),
            Limit.READ: self._count_of("default", rates.default, needs_redis=False),
        }

    async def count(self, limit: Limit, key: str) -> None:
        """Raise RateLimited over the limit, and ActivityUnavailable where the limit needs Redis."""
        if limit is Limit.CHAT:
            await self._count_chat(key)
            return
        count = self._counts[limit]
        if count is not None:
            await run_in_threadpool(count, key)

    async def _count_chat(self, key: str) -> None:
        if self._chat is None:
            return
        hit = await self._chat_limiter.take(self._chat, key, "chat")
        if not hit.allowed:
            raise RateLimited(retry_after=max(1, round(hit.reset_after)))

    def _count_of(self, scope: str, rate: RateLimitItem | None, *, needs_redis: bool = True) -> Count | None:
        """Return what counts a key, or None where the limit is off."""
        if rate is None:
            return None

        def hit(request: Request) -> None:
            """Counted by the decorator."""

        hit.__name__ = f"count_{scope}_{needs_redis}"
        counted = self._limiter.shared_limit(str(rate), scope=scope)(hit)

        def count(key: str) -> None:
            try:
                counted(_request_of(key))
            except RateLimitExceeded:
                raise RateLimited(retry_after=self._retry_after(rate, key, scope)) from None
            except RedisError:
                if needs_redis:
                    raise ActivityUnavailable from None

        return count

    def _retry_after(self, rate: RateLimitItem, key: str, scope: str) -> int:
        try:
            reset = self._limiter.limiter.get_window_stats(rate, key, scope).reset_time
        except RedisError:
            return rate.get_expiry()
        return max(1, round(reset - time.time()))


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
        return (resp.RedisError, ActivityUnavailable)

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
