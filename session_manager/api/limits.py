"""Rate limits per caller, shared by all replicas through Redis.

slowapi keeps the ordinary routes: as plain functions, so that FastAPI calls them in its thread pool and their
synchronous Redis call never holds up the event loop.  The chat route uses the asynchronous half of the same
``limits`` library on the pipelined connection, with the same strings, keys and counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from limits import RateLimitItem
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded

from session_manager.activity.limits_storage import LinkLimiter
from session_manager.activity.link import Link
from session_manager.domain.errors import ActivityUnavailable, RateLimited
from session_manager.people.identity import Actor
from session_manager.settings import Settings

Check = Callable[[Request], None]


def current_actor(request: Request) -> Actor:
    """The actor that the outermost layer found; see identity."""
    actor: Actor = request.scope["actor"]
    return actor


CurrentActor = Annotated[Actor, Depends(current_actor)]


def _key_of(request: Request) -> str:
    # Before the path was checked: one session counts as one in any spelling, and what is none makes no long keys.
    return current_actor(request).limit_key(request.path_params.get("session_id", "")[:36].lower())


def _unlimited(request: Request) -> None:
    """The limit is off."""


class RouteLimits:
    """A dependency per group of routes. ``needs_redis``: without Redis the route answers 503, else it goes on."""

    def __init__(self, settings: Settings, redis_url: str) -> None:
        timeouts = {"socket_timeout": settings.redis.timeout, "socket_connect_timeout": settings.redis.timeout}
        options: Any = {**timeouts, "retry": Retry(NoBackoff(), 0)}
        self._limiter = Limiter(key_func=_key_of, storage_uri=redis_url, storage_options=options)
        self.create = self._check("create", settings.limits.create, needs_redis=True)
        self.wake = self._check("wake", settings.limits.wake, needs_redis=True)
        self.delete = self._check("delete", settings.limits.delete, needs_redis=True)
        self.change = self._check("default", settings.limits.default, needs_redis=True)
        self.read = self._check("default", settings.limits.default, needs_redis=False)

    def _check(self, scope: str, item: RateLimitItem | None, *, needs_redis: bool) -> Check:
        if item is None:
            return _unlimited

        def count(request: Request) -> None:
            """Counted by the decorator."""

        count.__name__ = f"count_{scope}_{needs_redis}"
        counted = self._limiter.shared_limit(str(item), scope=scope)(count)

        def check(request: Request) -> None:
            try:
                counted(request)
            except RateLimitExceeded:
                raise RateLimited(retry_after=self._retry_after(item, _key_of(request), scope)) from None
            except RedisError:
                if needs_redis:
                    raise ActivityUnavailable from None

        return check

    def _retry_after(self, item: RateLimitItem, key: str, scope: str) -> int:
        try:
            reset = self._limiter.limiter.get_window_stats(item, key, scope).reset_time
        except RedisError:
            return item.get_expiry()
        return max(1, round(reset - time.time()))


class ChatLimit:
    """The limit of the chat route, on the pipelined connection."""

    def __init__(self, settings: Settings, link: Link) -> None:
        self._item = settings.limits.chat
        self._limiter = LinkLimiter(link)

    async def check(self, actor: Actor, session: str) -> None:
        """RateLimited over the limit, ActivityUnavailable without Redis."""
        if self._item is None:
            return
        hit = await self._limiter.take(self._item, actor.limit_key(session), "chat")
        if not hit.allowed:
            raise RateLimited(retry_after=max(1, round(hit.reset_after)))
