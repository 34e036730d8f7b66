"""Background tasks, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.aio.retry import until_available
from session_manager.aio.tasks import Background
from tests.aio.test_retry import Dependency
from tests.sim.clock import VirtualLoop


def test_a_retry_goes_on_in_the_background(loop: VirtualLoop) -> None:
    dependency = Dependency(loop, back_at=1.0)

    async def work() -> None:
        background = Background()
        background.start(until_available(dependency.ask), "ask")
        await asyncio.sleep(2.0)
        await background.close()

    loop.run_until_complete(work())
    assert dependency.calls == [0.0, 0.1, 0.3, 0.7, 1.5]


def test_close_cancels_what_still_runs(loop: VirtualLoop) -> None:
    dependency = Dependency(loop, back_at=3600.0)

    async def work() -> None:
        background = Background()
        background.start(until_available(dependency.ask), "ask")
        await asyncio.sleep(0.2)
        await background.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    loop.run_until_complete(work())
    assert dependency.calls == [0.0, 0.1]


def test_a_failure_is_logged(loop: VirtualLoop, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def work() -> None:
        background = Background()
        background.start(fail(), "fail")
        await asyncio.sleep(1.0)
        await background.close()

    loop.run_until_complete(work())
    assert [record.message for record in caplog.records] == ["a background task failed"]
