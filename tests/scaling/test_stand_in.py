"""A deputy stands in for the scaler, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.runtime.protocol import PodAddress
from session_manager.scaling.scaler import Scaler, StandIn
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from tests.scaling.addresses import BRISK, Classes, Pods
from tests.waiting import until

TIMES = ScalerTimes(tick=0.02, heartbeat=0.3)

Deputy = Callable[[Pods], Any]


async def nothing_unfinished() -> bool:
    return False


@pytest.fixture
async def deputy(redis_url: str) -> AsyncIterator[Deputy]:
    """Start a deputy in another process, with these pods."""
    async with AsyncExitStack() as stack:

        async def start(pods: Pods) -> None:
            await stack.enter_async_context(_standing_in(redis_url, pods))

        yield start


@asynccontextmanager
async def _standing_in(redis_url: str, pods: Pods) -> AsyncIterator[None]:
    link = Link.from_url(redis_url)
    activity = RedisActivity(link, lease=15.0, heartbeat=0.3, has_unfinished=nothing_unfinished)
    await activity.start()
    runtime: Any = pods
    running = asyncio.create_task(StandIn(ScalerKit(activity, Classes(), TIMES, max_wakes=4), lambda: runtime).run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await activity.close()


async def awake(activity: RedisActivity, session: str) -> bool:
    return (await activity.hot(session)).address


async def test_pods_wake_and_sleep_without_a_scaler(activity: RedisActivity, deputy: Deputy):
    pods, session = Pods(), str(uuid4())
    await activity.wake(session, BRISK)
    await deputy(pods)
    await until(lambda: awake(activity, session))
    assert await activity.watched()
    assert await activity.fence(session, BRISK, force=True) == "PASSED"
    await until(lambda: not pods.present)


async def test_no_deputy_stands_in_while_a_scaler_beats(activity: RedisActivity, deputy: Deputy, link: Link):
    pods = Pods()
    beating = asyncio.create_task(_keep_beating(activity))
    await deputy(pods)
    session = str(uuid4())
    await activity.wake(session, BRISK)
    await until(lambda: _looked_again(activity))
    assert not pods.starting.is_set()
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
    await link.execute("DEL", "heartbeat")
    await until(lambda: awake(activity, session))


async def _keep_beating(activity: RedisActivity) -> None:
    while True:
        await activity.beat()
        await asyncio.sleep(0.02)


async def _looked_again(activity: RedisActivity, looks: int = 30) -> bool:
    """Wait for longer than a deputy would: this many round trips to Redis, one after the other."""
    for _ in range(looks):
        await asyncio.sleep(TIMES.heartbeat / 10)
        assert await activity.watched()
    return True


async def test_a_scaler_that_comes_back_is_left_alone(activity: RedisActivity, deputy: Deputy):
    pods, session = Pods(), str(uuid4())
    await activity.wake(session, BRISK)
    await deputy(pods)
    await until(lambda: awake(activity, session))
    before = dict(pods.present)
    runtime: Any = pods
    scaler = asyncio.create_task(Scaler(ScalerKit(activity, Classes(), TIMES, max_wakes=4), runtime).run())

    async def relieved() -> bool:
        return not await activity.beat(deputy=True) and not pods.open

    await until(relieved)
    assert pods.present == before
    assert await awake(activity, session)
    scaler.cancel()
    with suppress(asyncio.CancelledError):
        await scaler


async def test_only_one_of_two_deputies_stands_in(activity: RedisActivity, deputy: Deputy):
    first, second, session = Pods(), Pods(), str(uuid4())
    await deputy(first)
    await deputy(second)
    await until(lambda: first.open or second.open)
    await activity.wake(session, BRISK)
    await until(lambda: awake(activity, session))
    assert len([pods for pods in (first, second) if pods.present]) == 1


async def test_the_address_of_a_pod_that_went_meanwhile_stays_invalid(
    activity: RedisActivity, deputy: Deputy, link: Link
):
    pods, gone, stays = Pods(), str(uuid4()), str(uuid4())
    for session in (gone, stays):
        await activity.wake(session, BRISK)
        address = PodAddress("127.0.0.1", 4000, str(uuid4()))
        assert await activity.publish(session, address, BRISK, old=False)
    pods.present[stays] = address
    await deputy(pods)
    await until(activity.watched)
    assert await link.execute("HGET", f"session:{stays}", "pod") == address.uid.encode()
    assert not await awake(activity, gone)


async def test_a_failure_does_not_end_the_deputy(
    activity: RedisActivity, deputy: Deputy, caplog: pytest.LogCaptureFixture
):
    tries = iter(["broken"])

    class Broken(Pods):
        async def start(self) -> None:
            for words in tries:
                raise RuntimeError(words)
            await super().start()

    pods, session = Broken(), str(uuid4())
    await activity.wake(session, BRISK)
    await deputy(pods)
    await until(lambda: any(record.exc_info for record in caplog.records))
    await until(lambda: awake(activity, session))
