"""The queue: each key once, never twice at the same time, and failures again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from session_manager.aio.retry import Backoff
from session_manager.runtime.kubernetes.cluster import ApiError
from session_operator import work_queue
from session_operator.work_queue import NotYet, PutOff, WorkQueue
from tests.waiting import until


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_key_that_was_added_often_is_reconciled_once():
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    queue = WorkQueue(work, 2)
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    running = asyncio.create_task(queue.run())
    await until(lambda: not len(queue) and len(seen) == 2)
    await stop(running)
    assert sorted(seen) == ["a", "b"]


async def test_a_key_that_is_added_during_its_work_is_reconciled_again_and_never_in_parallel():
    begun, go = 0, asyncio.Event()
    at_once: list[int] = []
    busy = 0

    async def work(key: str) -> None:
        nonlocal begun, busy
        begun += 1
        busy += 1
        at_once.append(busy)
        await go.wait()
        busy -= 1

    queue = WorkQueue(work, 4)
    queue.add("a")
    running = asyncio.create_task(queue.run())
    await until(lambda: begun == 1)
    queue.add("a")
    await asyncio.sleep(0)
    assert begun == 1
    go.set()
    await until(lambda: begun == 2 and not busy)
    await stop(running)
    assert at_once == [1, 1]


async def test_a_failed_key_is_retried_and_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(work_queue, "BACKOFF", Backoff(0.001, 60.0))
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 3:
            raise RuntimeError("not yet")

    queue = WorkQueue(work, 1)
    queue.add("bad")
    queue.add("good")
    running = asyncio.create_task(queue.run())
    await until(lambda: seen.count("bad") == 3 and "good" in seen)
    await stop(running)
    [record] = caplog.records  # the same words again say nothing new
    assert record.exc_info is not None
    assert record.getMessage() == "reconciling failed and is retried: not yet"


async def test_a_rejected_request_is_logged_once_without_a_traceback_and_again_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(work_queue, "BACKOFF", Backoff(0.001, 0.001))
    words = ["no", "no", "no", "no longer", "no longer", ""]

    async def work(key: str) -> None:
        if word := words.pop(0):
            raise ApiError(403, "Forbidden", word)

    results: list[str] = []
    queue = WorkQueue(work, 1, lambda result, _: results.append(result))
    queue.add("a")
    running = asyncio.create_task(queue.run())
    await until(lambda: not words and "done" in results)
    await stop(running)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["no", "no longer"]
    assert not any(record.exc_info for record in caplog.records)
    assert results == ["failed"] * 5 + ["done"]


async def test_a_key_that_only_has_to_wait_is_not_reported_as_a_failure(caplog: pytest.LogCaptureFixture):
    looks: list[str] = []

    async def work(key: str) -> None:
        looks.append(key)
        if len(looks) < 4:
            raise NotYet(0.01)

    queue = WorkQueue(work, 1)
    queue.add("a")
    running = asyncio.create_task(queue.run())
    await until(lambda: len(looks) == 4)
    await stop(running)
    assert not caplog.records


async def test_a_key_that_is_put_off_waits_for_urgent_work_but_not_forever():
    put_off = PutOff(latest=3600)
    with pytest.raises(NotYet):
        put_off.wait("a", while_=True)
    put_off.wait("a", while_=False)
    with pytest.raises(NotYet):
        put_off.wait("a", while_=True)
    impatient = PutOff(latest=0)
    impatient.wait("a", while_=True)
