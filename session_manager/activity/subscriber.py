"""Publish and subscribe, over a connection of its own.

After a reconnect it subscribes again by itself, and calls ``on_gap``: messages published meanwhile are lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from session_manager.activity.reconnecting import Reconnecting
from session_manager.activity.resp import RedisConnection, RedisError
from session_manager.activity.target import Target
from session_manager.domain.errors import ActivityUnavailable

log = logging.getLogger(__name__)

Listener = Callable[[bytes], None]
OnGap = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Subscription:
    listener: Listener
    on_gap: OnGap | None
    confirmed: bool = False


class Subscriber:
    """``timeout``: seconds, as for commands."""

    def __init__(self, target: Target, timeout: float) -> None:
        self._line = Reconnecting(target, timeout, self._resubscribe, "redis messages", self._on_message)
        self._channels: dict[bytes, list[_Subscription]] = {}

    async def start(self) -> None:
        await self._line.start()

    async def close(self) -> None:
        await self._line.close()

    async def subscribe(self, channel: str, listener: Listener, on_gap: OnGap | None = None) -> None:
        """Return when Redis has confirmed it: each later message arrives, or ``on_gap`` is called."""
        name = channel.encode()
        subscription = _Subscription(listener, on_gap)
        self._channels.setdefault(name, []).append(subscription)
        try:
            await (await self._line.connection()).send((b"SUBSCRIBE", name))
        except BaseException:
            self._drop(name, subscription)
            raise
        subscription.confirmed = True

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Stop calling ``listener``. Never fails: without Redis there is nothing to end."""
        name = channel.encode()
        for subscription in self._channels.get(name, []):
            if subscription.listener == listener:
                self._drop(name, subscription)
                return

    def _drop(self, name: bytes, subscription: _Subscription) -> None:
        subscriptions = self._channels[name]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._channels[name]
            self._leave(name)

    def _leave(self, name: bytes) -> None:
        if self._line.current is not None:
            self._line.current.post(b"UNSUBSCRIBE", name)

    def _on_message(self, name: bytes, data: bytes) -> None:
        if name not in self._channels:  # left while the connection was being opened again
            self._leave(name)
        for subscription in list(self._channels.get(name, ())):
            _call(subscription.listener, data)

    async def _resubscribe(self, connection: RedisConnection) -> None:
        try:
            await asyncio.gather(*(connection.send((b"SUBSCRIBE", name)) for name in self._channels))
        except RedisError as error:
            log.error("redis rejected a subscription: %s", error.code, extra={"event": "redis.refused"})
            raise ActivityUnavailable from None
        for subscription in [each for channel in self._channels.values() for each in channel]:
            if subscription.confirmed and subscription.on_gap is not None:
                _call(subscription.on_gap)


def _call(listener: Callable[..., None], *args: bytes) -> None:
    try:
        listener(*args)
    except Exception:
        log.exception("a listener failed", extra={"event": "redis.listener"})
