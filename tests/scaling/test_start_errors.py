"""A start that fails for an unforeseen reason ends like any other failed start: reported, logged once, backed off."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.redis import RedisActivity
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PhaseListener, PodAddress
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit
from tests.scaling.addresses import BRISK, TIMES, Classes, Pods
from tests.waiting import until


class Buggy(Pods):
    starts = 0

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        self.starts += 1
        raise KeyError("spec")


async def test_a_bug_in_a_start_is_reported_and_does_not_repeat_at_once(
    activity: RedisActivity, caplog: pytest.LogCaptureFixture
):
    pods, session = Buggy(), str(uuid4())
    runtime: Any = pods
    times = replace(TIMES, tick=0.01, retry_first=600.0)
    running = asyncio.create_task(Scaler(ScalerKit(activity, Classes(), times, 4), runtime).run())
    await activity.wake(session, BRISK)

    async def failure() -> Failure | None:
        return (await activity.hot(session)).failure

    found = await until(failure)
    assert (found.reason, found.tries) == ("InternalError", 1)
    looks = 0

    async def looked_again() -> bool:
        nonlocal looks
        looks += 1
        return looks > 20

    await until(looked_again)
    assert pods.starts == 1
    assert len([record for record in caplog.records if record.exc_info]) == 1
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
