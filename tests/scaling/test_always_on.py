"""Sessions that are always on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from session_manager.activity.redis import RedisActivity
from session_manager.scaling.scaler import Scaler
from tests.scaling.addresses import BRISK, TIMES, Classes, Pods
from tests.servers.redis import RedisServer
from tests.waiting import until


async def test_its_pod_is_there_without_anybody_asking(redis_server: RedisServer, activity: RedisActivity):
    pods, session = Pods(), str(uuid4())
    runtime: Any = pods
    times = replace(TIMES, keep=0.05)
    patient = replace(BRISK, idle_timeout=1000.0)
    scaler = Scaler(activity, runtime, Classes(), times, 4, always_on=lambda: [(session, patient)])
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
