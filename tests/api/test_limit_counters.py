"""Both ways to count a call use one counter: slowapi's limiter and the script on the pipelined connection."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from session_manager.activity.link import Link
from session_manager.api.limits import count_call
from session_manager.domain.errors import ActivityUnavailable

WHO = ("key:alice", "chat")


@pytest.fixture
def theirs(redis_url: str) -> Iterator[FixedWindowRateLimiter]:
    """The limiter that slowapi uses."""
    storage = RedisStorage(redis_url)
    yield FixedWindowRateLimiter(storage)
    storage.storage.close()


async def hit(link: Link, limit: RateLimitItem, *who: str) -> bool:
    return (await count_call(link, limit, *who))[0] <= limit.amount


async def test_both_share_a_window(link: Link, theirs: FixedWindowRateLimiter) -> None:
    limit = parse("5/minute")
    outcomes = [
        await hit(link, limit, *WHO),
        theirs.hit(limit, *WHO),
        await hit(link, limit, *WHO),
        await hit(link, limit, *WHO),
        theirs.hit(limit, *WHO),
        theirs.hit(limit, *WHO),
        await hit(link, limit, *WHO),
    ]
    assert outcomes == [True, True, True, True, True, False, False]
    assert theirs.test(limit, *WHO) is False
    _, rest = await count_call(link, limit, *WHO)
    stats = theirs.get_window_stats(limit, *WHO)
    assert stats.remaining == 0
    assert time.time() + rest == pytest.approx(stats.reset_time, abs=5)
    assert await hit(link, limit, "key:bob", "chat")


@pytest.mark.parametrize("ours_first", [True, False])
async def test_the_first_call_sets_the_end_of_the_window(
    link: Link, theirs: FixedWindowRateLimiter, ours_first: bool
) -> None:
    limit = parse("2/2minutes")
    if ours_first:
        await count_call(link, limit, *WHO)
    else:
        theirs.hit(limit, *WHO)
    [key] = await link.execute("KEYS", "*")
    assert key == b"LIMITS:LIMITER/key:alice/chat/2/2/minute"
    assert 110 <= await link.execute("TTL", key) <= 120


async def test_a_call_returns_the_end_of_the_window(link: Link) -> None:
    limit = parse("2/hour")
    calls = [await count_call(link, limit, *WHO) for _ in range(4)]
    assert [count for count, _ in calls] == [1, 2, 3, 4]
    assert calls[0][1] == 3600
    assert all(3500 < rest <= 3600 for _, rest in calls)
    [key] = await link.execute("KEYS", "*")
    await link.execute("PEXPIRE", key, 1500)
    assert 0 < (await count_call(link, limit, *WHO))[1] <= 1.5


async def test_each_caller_has_a_window(link: Link) -> None:
    limit = parse("1/hour")
    assert all([await hit(link, limit, f"key:{number}") for number in range(30)])
    assert not await hit(link, limit, "key:2")


async def test_without_redis_a_call_raises(link: Link) -> None:
    assert await hit(link, parse("1/hour"), *WHO)
    await link.close()
    with pytest.raises(ActivityUnavailable):
        await count_call(link, parse("1/hour"), *WHO)
