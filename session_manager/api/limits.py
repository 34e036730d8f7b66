"""Rate limits per caller, shared by all front doors through Redis.

slowapi counts the ordinary routes, in a thread, so that its synchronous call to Redis does not hold up the event loop.
The routes of turns use the asynchronous half of the same ``limits`` library on the pipelined connection, with the same
strings, keys and counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from limits import RateLimitItem
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from session_manager.activity.limits_storage import LinkLimiter
from session_manager.activity.link import Link
from session_manager.domain.errors import ActivityUnavailable, RateLimited
from session_manager.settings import Settings

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
        self._limiter = Limiter(key_func=_key_of, storage_uri=link.url, storage_options=options)
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
