"""Both halves of the `limits` library use one counter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from limits import parse
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from session_manager.activity.link import Link
from session_manager.api.limits import LinkLimiter, LinkStorage
from session_manager.domain.errors import ActivityUnavailable

WHO = ("key:alice", "chat")


@pytest.fixture
def theirs(redis_url: str) -> Iterator[FixedWindowRateLimiter]:
    """The limiter that slowapi uses."""
    storage = RedisStorage(redis_url)
    yield FixedWindowRateLimiter(storage)
    storage.storage.close()


async def test_both_halves_of_the_library_share_a_window(link: Link, theirs: FixedWindowRateLimiter) -> None:
    ours = AsyncFixedWindow(LinkStorage(link))
    limit = parse("5/minute")
    outcomes = [
        await ours.hit(limit, *WHO),
        theirs.hit(limit, *WHO),
        await ours.hit(limit, *WHO, cost=2),
        theirs.hit(limit, *WHO),
        await ours.hit(limit, *WHO),
        theirs.hit(limit, *WHO),
    ]
    assert outcomes == [True, True, True, True, False, False]
    assert await ours.test(limit, *WHO) is theirs.test(limit, *WHO) is False
    our_stats, their_stats = await ours.get_window_stats(limit, *WHO), theirs.get_window_stats(limit, *WHO)
    assert our_stats.remaining == their_stats.remaining == 0
    assert our_stats.reset_time == pytest.approx(their_stats.reset_time, abs=5)
    assert await ours.hit(limit, "key:bob", "chat")


@pytest.mark.parametrize("ours_first", [True, False])
async def test_the_first_call_sets_the_end_of_the_window(
    link: Link, theirs: FixedWindowRateLimiter, ours_first: bool
) -> None:
    limit = parse("2/2minutes")
    if ours_first:
        await LinkLimiter(link).take(limit, *WHO)
    else:
        theirs.hit(limit, *WHO)
    [key] = await link.execute("KEYS", "*")
    assert key == b"LIMITS:LIMITER/key:alice/chat/2/2/minute"
    assert 110 <= await link.execute("TTL", key) <= 120


async def test_a_hit_returns_the_end_of_the_window(link: Link) -> None:
    limiter, limit = LinkLimiter(link), parse("2/hour")
    hits = [await limiter.take(limit, *WHO) for _ in range(4)]
    assert [hit.allowed for hit in hits] == [True, True, False, False]
    assert [hit.remaining for hit in hits] == [1, 0, 0, 0]
    assert hits[0].reset_after == 3600
    assert all(3500 < hit.reset_after <= 3600 for hit in hits)
    [key] = await link.execute("KEYS", "*")
    await link.execute("PEXPIRE", key, 1500)
    assert 0 < (await limiter.take(limit, *WHO)).reset_after <= 1.5


async def test_clear_and_reset(link: Link) -> None:
    limiter, limit = LinkLimiter(link), parse("1/hour")
    await link.execute("SET", "session:1", "stays")
    for number in range(30):
        assert await limiter.hit(limit, f"key:{number}")
    await limiter.clear(limit, "key:1")
    assert await limiter.hit(limit, "key:1")
    assert not await limiter.hit(limit, "key:2")
    assert await limiter.storage.reset() == 30
    assert await link.execute("KEYS", "*") == [b"session:1"]
    assert await limiter.hit(limit, "key:2")


async def test_without_redis_a_call_raises(link: Link) -> None:
    limiter = LinkLimiter(link)
    assert await limiter.storage.check()
    await link.close()
    assert not await limiter.storage.check()
    with pytest.raises(ActivityUnavailable):
        await limiter.hit(parse("1/hour"), *WHO)
