"""Rate limits per caller, shared by all front doors through Redis.

slowapi's limiter counts the ordinary routes, in a thread, so that its synchronous call to Redis does not hold up the
event loop. The routes of turns count with a script on the pipelined connection, whose keys and windows are those of
slowapi's fixed windows.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any

from limits import RateLimitItem
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from slowapi import Limiter
from starlette.concurrency import run_in_threadpool

from session_manager.activity.link import Link, Script
from session_manager.domain.errors import ActivityUnavailable, RateLimited
from session_manager.settings import Settings

_COUNT = Script(
    "limit",
    """
local count = redis.call('INCR', KEYS[1])
if count == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
  return {count, ARGV[1] * 1000}
end
return {count, redis.call('PTTL', KEYS[1])}
""",
)


class Limit(StrEnum):
    """The limits of routes. Without Redis, routes that count as READ go on, and the others answer 503."""

    CREATE = "create"
    WAKE = "wake"
    DELETE = "delete"
    CHAT = "chat"
    CHANGE = "change"
    READ = "read"


class Limits:
    """Count requests by the limit of their route and the key of their caller."""

    def __init__(self, settings: Settings, link: Link) -> None:
        timeouts = {"socket_timeout": settings.redis.timeout, "socket_connect_timeout": settings.redis.timeout}
        options: Any = {**timeouts, "retry": Retry(NoBackoff(), 0)}
        self._windows = Limiter(key_func=str, storage_uri=link.target.url, storage_options=options).limiter
        self._link = link
        rates = settings.limits
        self._chat = rates.chat
        self._rates = {
            Limit.CREATE: ("create", rates.create),
            Limit.WAKE: ("wake", rates.wake),
            Limit.DELETE: ("delete", rates.delete),
            Limit.CHANGE: ("default", rates.default),
            Limit.READ: ("default", rates.default),
        }

    async def count(self, limit: Limit, key: str) -> None:
        """Raise RateLimited over the limit, and ActivityUnavailable where the limit needs Redis."""
        if limit is Limit.CHAT:
            if self._chat is not None:
                await self._count_chat(self._chat, key)
            return
        scope, rate = self._rates[limit]
        if rate is None:
            return
        try:
            await run_in_threadpool(self._count, rate, key, scope)
        except RedisError:
            if limit is not Limit.READ:
                raise ActivityUnavailable from None

    async def _count_chat(self, rate: RateLimitItem, key: str) -> None:
        count, rest = await count_call(self._link, rate, key, "chat")
        if count > rate.amount:
            raise RateLimited(retry_after=max(1, round(rest)))

    def _count(self, rate: RateLimitItem, key: str, scope: str) -> None:
        if self._windows.hit(rate, key, scope):
            return
        try:
            rest = self._windows.get_window_stats(rate, key, scope).reset_time - time.time()
        except RedisError:
            rest = rate.get_expiry()
        raise RateLimited(retry_after=max(1, round(rest)))


async def count_call(link: Link, rate: RateLimitItem, *identifiers: str) -> tuple[int, float]:
    """Count a call, also one over the limit. Return the calls of this window, and the seconds until it ends.

    Raises ActivityUnavailable without Redis.
    """
    key = f"LIMITS:{rate.key_for(*identifiers)}"
    count, milliseconds = await link.script(_COUNT, (rate.get_expiry(),), keys=(key,))
    return int(count), max(milliseconds, 0) / 1000
