"""The scaler on a real Redis, with pods that answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.errors import InvalidInput
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import seconds
from session_manager.runtime.protocol import Address, ExitListener, PhaseListener
from session_manager.scaling.scaler import Scaler, ScalerTimes
from tests.servers.redis import RedisServer
from tests.waiting import until

BRISK = SessionClass("brisk", idle_timeout=20.0)
TIMES = ScalerTimes(tick=0.02, heartbeat=5.0)


class Classes:
    def get(self, name: str) -> SessionClass:
        if name != BRISK.name:
            raise InvalidInput("there is no such class")
        return BRISK


@dataclass
class Pods:
    """A runtime whose pods are nothing but addresses. They start at once, unless ``hold_up`` is set."""

    present: dict[str, Address] = field(default_factory=dict)
    hold_up: bool = False
    starting: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def on_exit(self, listener: ExitListener) -> None: ...

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> Address:
        self.starting.set()
        if self.hold_up:
            await asyncio.Event().wait()
        self.present[session] = address = Address("127.0.0.1", 4000, str(uuid4()))
        return address

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        if session in self.present and self.present[session].uid == uid:
            del self.present[session]

    def pods(self) -> dict[str, Address]:
        return dict(self.present)

    async def forget(self, session: str, *, files: bool) -> None: ...

    async def gone(self, session: str) -> bool:
        return session not in self.present

    async def logs(self, session: str, tail: int) -> str:
        return ""


@pytest.fixture
async def activity(redis_url: str) -> AsyncIterator[RedisActivity]:
    async def nothing_unfinished() -> bool:
        return False

    link = Link.from_url(redis_url)
    activity = RedisActivity(link, lease=15.0, heartbeat=5.0, has_unfinished=nothing_unfinished)
    await activity.start()
    yield activity
    await activity.close()


@pytest.fixture
async def pods(activity: RedisActivity) -> AsyncIterator[Pods]:
    pods = Pods()
    runtime: Any = pods
    running = asyncio.create_task(Scaler(activity, runtime, Classes(), TIMES, max_wakes=4).run())
    yield pods
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_pod_that_redis_forgot_keeps_the_idle_time_of_its_class(
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
