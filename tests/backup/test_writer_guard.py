"""From waiting to writing and out again, on an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from session_manager.domain.errors import NotTheWriter, StartupFailure, StorageDenied, StorageError, StorageUnavailable
from session_manager.leadership import writer_guard
from session_manager.leadership.bucket_lease import Lease, Record
from session_manager.leadership.writer_guard import WriterGuard
from session_manager.leadership.writer_state import WriterState
from session_manager.storage.conditional import FolderObject, Versioned
from session_manager.storage.places import Place, open_place
from tests.waiting import until

PERIOD = 1.0

Make = Callable[[], tuple[WriterGuard, "Bucket"]]


class Bucket(FolderObject):
    """As one instance sees it."""

    error: StorageError | None = None

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.asked = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self) -> Versioned | None:
        if self.error is not None:
            raise self.error
        return super().read()

    def replace(self, content: bytes, version: str | None) -> str:
        if self.error is not None:
            raise self.error
        self.asked.set()
        self.go_on.wait()
        return super().replace(content, version)


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(writer_guard, "LOOKS", 0.02)
    monkeypatch.setattr(writer_guard, "AWAY", 0.02)
    made: list[WriterGuard] = []

    def one() -> tuple[WriterGuard, Bucket]:
        bucket = Bucket(open_place(f"file://{tmp_path}/bucket"), "lease")
        made.append(WriterGuard(lambda: Lease(bucket, PERIOD), PERIOD))
        return made[-1], bucket

    yield one
    for guard in made:
        await guard.close()


async def writing(guard: WriterGuard) -> Record:
    ours, _ = await guard.acquire()
    guard.opened()
    assert guard.state is WriterState.WRITING
    return ours


def refused(guard: WriterGuard, *, reading: bool) -> bool:
    try:
        guard.check(reading=reading)
    except NotTheWriter as error:
        return error.retry_after >= 1 and error.detail == guard.lacks
    return False


async def test_who_waits_and_who_opens_serves_nothing(make: Make) -> None:
    guard, _ = make()
    assert guard.state.value == "waiting"
    assert refused(guard, reading=True)
    await guard.acquire()
    assert guard.state.value == "opening"
    assert refused(guard, reading=True)
    guard.fence()  # the schema is brought up to date before it serves
    guard.opened()
    assert not refused(guard, reading=False)
    assert guard.lacks is None


async def test_it_is_kept_for_longer_than_its_period(make: Make) -> None:
    guard, _ = make()
    await writing(guard)
    other, _ = make()
    waiting = asyncio.create_task(other.acquire())
    done, _ = await asyncio.wait([waiting], timeout=2 * PERIOD)
    assert not done
    assert guard.held
    waiting.cancel()


async def test_after_a_release_the_next_one_has_it(make: Make) -> None:
    guard, _ = make()
    ours = await writing(guard)
    other, _ = make()
    waiting = asyncio.create_task(other.acquire())
    assert await guard.release()
    theirs, before = await waiting
    assert (before.holder, before.released) == (ours.holder, True)
    assert theirs.term == ours.term + 1
    assert guard.state is WriterState.RELEASED
    assert refused(guard, reading=True)
    assert not await guard.release()


async def test_while_the_bucket_is_away_it_reads_and_comes_back(make: Make) -> None:
    guard, bucket = make()
    await writing(guard)
    bucket.error = StorageUnavailable()
    await until(lambda: guard.state is WriterState.LAPSED)
    assert refused(guard, reading=False)
    assert not refused(guard, reading=True)
    with pytest.raises(NotTheWriter):
        guard.fence()
    bucket.error = None
    await until(lambda: guard.state is WriterState.WRITING)


async def test_a_bucket_that_refuses_is_waited_for_by_who_has_it_and_told_to_who_wants_it(make: Make) -> None:
    guard, bucket = make()
    await writing(guard)
    bucket.error = StorageDenied(reason="403")
    await until(lambda: guard.state is WriterState.LAPSED)
    bucket.error = None
    await until(lambda: guard.state is WriterState.WRITING)
    other, theirs = make()
    theirs.error = StorageDenied(reason="403 Forbidden")
    with pytest.raises(StartupFailure, match="403 Forbidden"):
        await other.acquire()


async def test_when_another_one_took_over_it_is_over(make: Make) -> None:
    guard, bucket = make()
    await writing(guard)
    bucket.error = StorageUnavailable()
    other, _ = make()
    await writing(other)
    assert not guard.held
    bucket.error = None
    await guard.until_lost()
    assert guard.state is WriterState.LOST
    assert refused(guard, reading=True)
    assert not await guard.release()
    assert other.held


async def test_one_that_got_it_while_it_was_told_to_go_lets_it_go(make: Make) -> None:
    guard, bucket = make()
    bucket.go_on.clear()
    waiting = asyncio.create_task(guard.acquire())
    await until(bucket.asked.is_set)
    waiting.cancel()
    await asyncio.wait([waiting])
    releasing = asyncio.create_task(guard.release())
    bucket.go_on.set()
    assert await releasing
    other, _ = make()
    assert (await writing(other)).term > 0
