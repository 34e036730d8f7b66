"""The scaler on a real Redis, with pods that answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.redis import RedisActivity
from session_manager.domain.times import seconds
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit
from tests.scaling.addresses import BRISK, TIMES, Classes, Pods
from tests.servers.redis import RedisServer
from tests.waiting import until


@pytest.fixture
async def pods(activity: RedisActivity) -> AsyncIterator[Pods]:
    pods = Pods()
    runtime: Any = pods
    running = asyncio.create_task(Scaler(ScalerKit(activity, Classes(), TIMES, max_wakes=4), runtime).run())
    yield pods
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_pod_that_redis_lost_keeps_the_idle_time_of_its_class(
    redis_server: RedisServer, activity: RedisActivity, pods: Pods
):
    session = str(uuid4())
    await activity.wake(session, BRISK)

    async def awake() -> bool:
        return (await activity.hot(session)).address

    await until(awake)
    redis_server.flush()
    await until(awake)
    deadline = (await activity.hot(session)).deadline
    with redis_server.client() as client:
        now, _ = client.time()
    assert deadline is not None
    assert seconds(deadline) - now <= BRISK.idle_timeout + 1
    assert session in pods.present


async def test_a_scaler_that_ends_while_a_pod_starts_leaves_nothing_behind(activity: RedisActivity, pods: Pods):
    pods.hold_up = True
    await activity.wake(str(uuid4()), BRISK)
    await pods.starting.wait()


async def all_forgotten(activity: RedisActivity) -> bool:
    return not await activity.unforgotten()


async def test_the_runtime_forgets_a_session_that_ended_once(activity: RedisActivity, pods: Pods):
    expired, deleted = str(uuid4()), str(uuid4())
    await activity.ended(expired)
    await activity.delete(deleted)
    await until(lambda: all_forgotten(activity))
    assert sorted(pods.forgot) == sorted([(expired, False), (deleted, True)])


async def test_an_expired_session_that_is_wanted_again_starts_anew(activity: RedisActivity, pods: Pods):
    session = str(uuid4())
    await activity.ended(session)
    await activity.wake(session, BRISK)

    async def awake() -> bool:
        return (await activity.hot(session)).address

    await until(awake)
    assert await all_forgotten(activity)
    assert pods.forgot in ([(session, False)], [])


async def test_the_runtime_does_not_forget_an_awake_session(activity: RedisActivity, pods: Pods):
    session = str(uuid4())
    await activity.wake(session, BRISK)

    async def awake() -> bool:
        return (await activity.hot(session)).address

    await until(awake)
    await activity.ended(session)
    await until(lambda: all_forgotten(activity))
    assert not pods.forgot
    assert await awake()
