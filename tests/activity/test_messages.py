"""Publish and subscribe over the link."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.activity.link import Link
from session_manager.activity.resp import RedisError
from session_manager.domain.errors import ActivityUnavailable
from tests.servers.redis import RedisServer, connected
from tests.waiting import until


async def subscribers(link: Link, channel: str) -> int:
    """Return the number of connections that Redis would send to."""
    _, number = await link.execute("PUBSUB", "NUMSUB", channel)
    return number


async def test_messages_arrive_from_the_moment_of_subscription(link: Link) -> None:
    seen: list[bytes] = []
    await link.subscribe("news", seen.append)
    assert await link.execute("PUBLISH", "news", "é\r\n".encode()) == 1
    await link.execute("PUBLISH", "other", "no")
    await link.execute("PUBLISH", "news", b"\x00\xff")
    await until(lambda: len(seen) == 2)
    assert seen == ["é\r\n".encode(), b"\x00\xff"]


async def test_the_last_of_two_listeners_ends_the_subscription(link: Link) -> None:
    one: list[bytes] = []
    two: list[bytes] = []
    await link.subscribe("news", one.append)
    await link.subscribe("news", two.append)
    await link.execute("PUBLISH", "news", "both")
    await until(lambda: one and two)
    await link.unsubscribe("news", one.append)
    await link.execute("PUBLISH", "news", "one")
    await until(lambda: len(two) == 2)
    assert one == [b"both"]
    await link.unsubscribe("news", two.append)
    await link.unsubscribe("news", two.append)
    await until(lambda: no_subscriber(link))
    assert await link.execute("PUBLISH", "news", "lost") == 0


async def no_subscriber(link: Link) -> bool:
    return await subscribers(link, "news") == 0


async def test_unsubscribing_and_subscribing_at_once_keeps_the_new_listener(link: Link) -> None:
    seen: list[bytes] = []
    for _ in range(50):
        await link.subscribe("news", seen.append)
        await link.unsubscribe("news", seen.append)
    await link.subscribe("news", seen.append)
    assert await link.execute("PUBLISH", "news", "x") == 1
    await until(lambda: seen)
    assert seen == [b"x"]


async def test_a_listener_that_fails_does_not_stop_the_others(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []

    def broken(_: bytes) -> None:
        raise ValueError("a mistake")

    await link.subscribe("news", broken)
    await link.subscribe("news", seen.append)
    await link.execute("PUBLISH", "news", "x")
    await until(lambda: seen)
    assert "a listener failed" in caplog.text


async def test_a_cancelled_subscription_leaves_nothing(link: Link) -> None:
    seen: list[bytes] = []
    subscribing = asyncio.create_task(link.subscribe("news", seen.append))
    await asyncio.sleep(0)
    subscribing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    await until(lambda: no_subscriber(link))


async def test_after_a_restart_it_subscribes_again_and_reports_the_gap(own_redis: RedisServer) -> None:
    link = Link.from_url(own_redis.url, timeout=30)
    await link.start()
    seen: list[bytes] = []
    gaps: list[str] = []
    await link.subscribe("news", seen.append, lambda: gaps.append("news"))
    await link.subscribe("left", seen.append, lambda: gaps.append("left"))
    own_redis.kill()
    await link.unsubscribe("left", seen.append)
    own_redis.start()
    await until(lambda: gaps)
    assert await link.execute("PUBLISH", "news", "back") == 1
    assert await link.execute("PUBLISH", "left", "back") == 0
    await until(lambda: seen)
    assert (seen, gaps) == ([b"back"], ["news"])
    await link.close()


async def test_subscribing_without_redis(own_redis: RedisServer) -> None:
    link = Link.from_url(own_redis.url, timeout=0.2)
    await link.start()
    seen: list[bytes] = []
    own_redis.kill()
    await until(lambda: not connected(link))
    with pytest.raises(ActivityUnavailable):
        await link.subscribe("news", seen.append)
    await link.unsubscribe("news", seen.append)
    own_redis.start()
    await until(lambda: subscribed(link, seen))
    await until(lambda: connected(link))
    assert await subscribers(link, "news") == 1
    await link.execute("PUBLISH", "news", "x")
    await until(lambda: seen)
    assert seen == [b"x"]
    await link.close()


async def subscribed(link: Link, seen: list[bytes]) -> bool:
    try:
        await link.subscribe("news", seen.append)
    except ActivityUnavailable:
        return False
    return True


@pytest.mark.usefixtures("real_redis_only")
async def test_a_user_who_may_not_subscribe(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.client() as client:
        client.acl_setuser("deaf", enabled=True, passwords=["+secret"], commands=["+@all", "-subscribe"])
        link = Link.from_url(f"redis://deaf:secret@127.0.0.1:{redis_server.port}")
        await link.start()
        with pytest.raises(RedisError):
            await link.subscribe("news", print)
        assert await link.execute("PING") == b"PONG"
        await link.close()
        client.acl_deluser("deaf")
