"""Quotas of pods, on a real Redis: who waits, who makes room, and what is known after Redis lost everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.redis import RedisActivity
from session_manager.domain.quota import Quota, Quotas
from session_manager.runtime.protocol import PodAddress
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit
from tests.scaling.addresses import BRISK, TIMES, Classes, Pods
from tests.servers.redis import RedisServer
from tests.waiting import until

TWO_PODS = Quotas(Quota(awake=2))
WAITS = "waiting until one of the user's awake pods (2) goes to sleep"


@pytest.fixture
def pods() -> Pods:
    return Pods()


@asynccontextmanager
async def scaling(activity: RedisActivity, pods: Pods, **limits: Any) -> AsyncIterator[Scaler]:
    runtime: Any = pods
    scaler = Scaler(ScalerKit(activity, Classes(), TIMES, **{"max_wakes": 4, **limits}), runtime)
    running = asyncio.create_task(scaler.run())
    try:
        yield scaler
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def awake(activity: RedisActivity, session: str) -> Callable[[], Any]:
    async def is_awake() -> bool:
        return (await activity.hot(session)).address

    return is_awake


async def wake(activity: RedisActivity, user: str = "ada", keep: float = 0.0) -> str:
    session = str(uuid4())
    await activity.wake(session, BRISK, keep, user)
    return session


async def test_a_session_over_the_quota_waits_and_says_so_until_its_user_has_a_pod_less(
    activity: RedisActivity, pods: Pods
):
    waits: list[tuple[str, str]] = []
    async with scaling(activity, pods, quotas=TWO_PODS) as scaler:
        scaler.workers.on_wait = lambda session, words: waits.append((session, words))
        kept = [await wake(activity, keep=600.0) for _ in range(2)]
        for session in kept:
            await until(awake(activity, session))
        third, other = await wake(activity), await wake(activity, "eve")
        await until(awake(activity, other))

        async def says_so() -> bool:
            return (await activity.hot(third)).phase == WAITS

        await until(says_so)
        assert not await awake(activity, third)()
        await activity.fence(kept[0], BRISK, force=True)
        await until(awake(activity, third))
        assert pods.present.keys() == {kept[1], third, other}
        assert [words for session, words in waits if session == third] == [WAITS, ""]


async def test_the_pod_that_was_used_longest_ago_makes_room(activity: RedisActivity, pods: Pods):
    async with scaling(activity, pods, quotas=TWO_PODS):
        first, second = await wake(activity), await wake(activity)
        for session in (first, second):
            await until(awake(activity, session))
        await activity.wake(first, BRISK, user="ada")
        third = await wake(activity)
        await until(awake(activity, third))
        assert pods.present.keys() == {first, third}


async def test_a_session_that_is_always_on_makes_no_room(activity: RedisActivity, pods: Pods):
    always = str(uuid4())
    async with scaling(activity, pods, quotas=TWO_PODS, always_on=lambda: [(always, BRISK)], user=lambda _: "ada"):
        await until(awake(activity, always))
        second = await wake(activity)
        await until(awake(activity, second))
        third = await wake(activity)
        await until(awake(activity, third))
        assert pods.present.keys() == {always, third}


async def test_a_full_machine_makes_room_for_anybody(activity: RedisActivity, pods: Pods):
    async with scaling(activity, pods, max_awake=1):
        first = await wake(activity, "ada")
        await until(awake(activity, first))
        second = await wake(activity, "eve")
        await until(awake(activity, second))
        assert pods.present.keys() == {second}


async def test_a_waiting_session_that_is_deleted_waits_no_longer(activity: RedisActivity, pods: Pods):
    async with scaling(activity, pods, quotas=TWO_PODS) as scaler:
        for _ in range(2):
            await until(awake(activity, await wake(activity, keep=600.0)))
        third = await wake(activity)
        await until(lambda: scaler.workers.slots.crowded() == {"ada": 1})
        await activity.delete(third)
        await until(lambda: (third, True) in pods.forgot)
        assert not scaler.workers.slots.crowded()


async def test_pods_that_were_there_count_for_a_new_scaler_and_after_redis_lost_everything(
    redis_server: RedisServer, activity: RedisActivity, pods: Pods
):
    async with scaling(activity, pods, quotas=TWO_PODS):
        kept = [await wake(activity, keep=600.0) for _ in range(2)]
        for session in kept:
            await until(awake(activity, session))
    async with scaling(activity, pods, quotas=TWO_PODS) as scaler:
        third = await wake(activity)
        await until(lambda: scaler.workers.slots.crowded() == {"ada": 1})
        redis_server.flush()
        for session in kept:
            await until(awake(activity, session))
        assert scaler.workers.slots.pods_of("ada") == set(kept)
        assert third not in pods.present


async def test_pods_of_one_user_that_never_get_ready_do_not_delay_another(activity: RedisActivity, pods: Pods):
    async with scaling(activity, pods, quotas=Quotas(Quota(wakes=2))) as scaler:
        pods.stuck = {str(uuid4()) for _ in range(6)}
        for session in pods.stuck:
            await activity.wake(session, BRISK, user="ada")
        await until(lambda: scaler.workers.slots.pods_of("ada"))
        other = await wake(activity, "eve")
        await until(awake(activity, other))
        assert len(scaler.workers.slots.pods_of("ada")) == 2


async def test_a_slot_that_is_given_while_another_program_starts_the_pod_is_given_back(
    activity: RedisActivity, pods: Pods, monkeypatch: pytest.MonkeyPatch
):
    async with scaling(activity, pods, max_wakes=1) as scaler:
        workers, really = scaler.workers, scaler.workers._has_slot
        first, second = str(uuid4()), str(uuid4())

        async def has_slot(session: str, *args: Any) -> bool:
            given = await really(session, *args)
            if session == first and first not in pods.present:
                pods.present[first] = PodAddress("127.0.0.1", 4000, "of KEDA")
                return False
            return given

        monkeypatch.setattr(type(workers), "_has_slot", lambda self, *args: has_slot(*args))
        await activity.wake(first, BRISK, 0.0, "ada")
        await activity.wake(second, BRISK, 0.0, "eve")
        await until(awake(activity, second))
