"""Waiting for tasks and ending them, in virtual time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from session_manager.aio.tasks import cancel, end_within, first_of, in_thread, is_set_within, unless, wait_for_either
from tests.sim.clock import VirtualLoop


class Work:
    """Sleeps for ``seconds``, then raises ``error`` if there is one. Records how it ended."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self._seconds = seconds
        self._error = error
        self.ended = ""

    async def run(self) -> None:
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        if self._error is not None:
            raise self._error


def test_the_first_one_ends_the_others(loop: VirtualLoop) -> None:
    quick, slow = Work(1.0), Work(9.0)
    loop.run_until_complete(first_of(slow.run(), quick.run()))
    assert (quick.ended, slow.ended, loop.time()) == ("done", "cancelled", 1.0)


def test_the_error_of_the_first_one_is_raised(loop: VirtualLoop) -> None:
    slow = Work(9.0)
    with pytest.raises(ValueError, match="broken"):
        loop.run_until_complete(first_of(Work(1.0, ValueError("broken")).run(), slow.run()))
    assert slow.ended == "cancelled"


def test_cancelling_the_wait_cancels_all(loop: VirtualLoop) -> None:
    works = Work(5.0), Work(9.0)

    async def wait() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await first_of(*(each.run() for each in works))

    loop.run_until_complete(wait())
    assert [each.ended for each in works] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(("set_at", "ended"), [(1.0, "cancelled"), (9.0, "done")])
def test_an_event_cuts_work_short(loop: VirtualLoop, set_at: float, ended: str) -> None:
    work = Work(5.0)

    async def run() -> None:
        event = asyncio.Event()
        timer = loop.call_later(set_at, event.set)
        await unless(event, work.run())
        timer.cancel()

    loop.run_until_complete(run())
    assert (work.ended, loop.time()) == (ended, min(set_at, 5.0))


def test_waiting_for_either_leaves_the_task_alone(loop: VirtualLoop) -> None:
    long, other = Work(9.0), Work(1.0)

    async def run() -> None:
        task = asyncio.create_task(long.run())
        await wait_for_either(task, other.run())
        assert (long.ended, other.ended, loop.time()) == ("", "done", 1.0)
        await wait_for_either(task, Work(100.0).run())
        assert (long.ended, loop.time()) == ("done", 9.0)

    loop.run_until_complete(run())


@pytest.mark.parametrize("task_ends_at", [1.0, 9.0])
def test_waiting_for_either_raises_what_the_work_raises(loop: VirtualLoop, task_ends_at: float) -> None:
    async def run() -> None:
        task = asyncio.create_task(Work(task_ends_at).run())
        with pytest.raises(ValueError, match="broken"):
            await wait_for_either(task, Work(1.0, ValueError("broken")).run())
        assert loop.time() == 1.0
        await task

    loop.run_until_complete(run())


def test_waiting_for_either_leaves_the_error_of_the_task_to_the_task(loop: VirtualLoop) -> None:
    async def run() -> None:
        task = asyncio.create_task(Work(1.0, ValueError("broken")).run())
        await wait_for_either(task, Work(9.0).run())
        with pytest.raises(ValueError, match="broken"):
            task.result()

    loop.run_until_complete(run())


def test_waiting_for_an_event(loop: VirtualLoop) -> None:
    async def run() -> None:
        event = asyncio.Event()
        assert not await is_set_within(event, 2.0)
        assert loop.time() == 2.0
        loop.call_later(1.0, event.set)
        assert await is_set_within(event, 2.0)
        assert loop.time() == 3.0

    loop.run_until_complete(run())


def test_cancel_waits_for_what_a_task_does_at_its_end(loop: VirtualLoop) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            await asyncio.sleep(3.0)
            raise ValueError("while ending")

    async def run() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(1.0)
        await cancel(task)
        assert task.done()
        assert loop.time() == 4.0
        await cancel(task)
        await cancel()

    loop.run_until_complete(run())


def test_tasks_get_a_while_to_end(loop: VirtualLoop) -> None:
    quick, slow = Work(1.0), Work(9.0)

    async def run() -> None:
        await end_within(2.0, [asyncio.create_task(each.run()) for each in (quick, slow)])
        await end_within(2.0, [])

    loop.run_until_complete(run())
    assert (quick.ended, slow.ended, loop.time()) == ("done", "cancelled", 2.0)


async def test_work_in_a_thread() -> None:
    assert await in_thread(lambda: threading.current_thread().name, "long work") == "long work"
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, "long work")
