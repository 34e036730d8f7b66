"""Sessions that are always on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.redis import RedisActivity
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros, seconds
from session_manager.runtime.protocol import PodAddress
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit
from tests.scaling.addresses import BRISK, TIMES, Classes, Pods
from tests.servers.redis import RedisServer
from tests.waiting import until


class Always:
    """One session that is always on, with a long idle timeout."""

    def __init__(self, session: str) -> None:
        self._session = session

    def always_on(self) -> list[tuple[str, SessionClass]]:
        return [(self._session, replace(BRISK, idle_timeout=1000.0))]


async def test_its_pod_runs_without_a_request(redis_server: RedisServer, activity: RedisActivity):
    pods, session = Pods(), str(uuid4())
    runtime: Any = pods
    times = replace(TIMES, keep=0.05)
    scaler = Scaler(ScalerKit(activity, Classes(), times, 4, Always(session).always_on), runtime)
    running = asyncio.create_task(scaler.run())

    async def awake() -> bool:
        return (await activity.hot(session)).address

    await until(awake)
    uid = pods.present[session].uid
    deadlines = set()

    async def moved_on() -> bool:
        deadlines.add((await activity.hot(session)).deadline)
        return len(deadlines) > 5

    await until(moved_on)
    assert pods.present[session].uid == uid
    pods.present.clear()
    redis_server.flush()
    await until(awake)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_pod_without_a_request_sleeps_after_the_idle_time_of_its_class(
    redis_server: RedisServer, activity: RedisActivity
):
    pods, session = Pods(), str(uuid4())
    pods.present[session] = PodAddress("127.0.0.1", 4000, "u")
    runtime: Any = pods
    kit = ScalerKit(activity, Classes(), TIMES, 4, class_name=lambda _: BRISK.name)
    running = asyncio.create_task(Scaler(kit, runtime).run())

    async def deadline() -> Micros | None:
        return (await activity.hot(session)).deadline

    found = await until(deadline)
    with redis_server.client() as client:
        now, _ = client.time()
    assert seconds(found) - now <= BRISK.idle_timeout + 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


class Broken(Always):
    """Fails the first time."""

    failures = 1

    def always_on(self) -> list[tuple[str, SessionClass]]:
        if self.failures:
            self.failures = 0
            raise KeyError("spec")
        return super().always_on()


async def test_a_failed_round_is_logged_and_does_not_end_the_scaler(
    activity: RedisActivity, caplog: pytest.LogCaptureFixture
):
    pods, session = Pods(), str(uuid4())
    runtime: Any = pods
    kit = ScalerKit(activity, Classes(), replace(TIMES, keep=0.05), 4, Broken(session).always_on)
    running = asyncio.create_task(Scaler(kit, runtime).run())
    await until(lambda: session in pods.present)
    assert [record.__dict__["event"] for record in caplog.records if record.exc_info] == ["scaler.failed"]
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
