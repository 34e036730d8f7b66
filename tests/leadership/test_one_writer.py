"""One writer: from waiting to writing and out again, with the lease in a folder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from session_manager.domain.errors import NotTheWriter, StartupFailure, StorageDenied, StorageError, StorageUnavailable
from session_manager.leadership import bucket_lease
from session_manager.leadership.bucket_lease import LEASE, BucketLease, Record
from session_manager.leadership.leadership import ONE_WRITER, Leadership, State
from session_manager.storage.conditional import FolderObject, Versioned
from session_manager.storage.places import Place, open_place
from tests.waiting import until

PERIOD = 1.0


class Bucket(FolderObject):
    """The lease object as one instance sees it."""

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


class Instance:
    def __init__(self, place: Place, name: str, yields_after: float | None) -> None:
        self.bucket = Bucket(place, LEASE)

        def open_object(asked: str, timeout: float) -> FolderObject:
            return self.bucket if asked == LEASE else FolderObject(place, asked)

        heeds = yields_after is not None
        self.lease = BucketLease(open_object, PERIOD, name, heeds_requests=heeds)
        self.leadership = Leadership(self.lease, ONE_WRITER, yields_after=yields_after)

    @property
    def state(self) -> State:
        return self.leadership.state

    async def acquire(self) -> None:
        await self.leadership.begin()
        await self.leadership.until_held()

    async def write(self) -> Record:
        await self.acquire()
        self.leadership.ready()
        assert self.state is State.LEADING
        return self.lease.ours

    def refuses(self, *, reading: bool) -> bool:
        try:
            self.leadership.check(reading=reading)
        except NotTheWriter as error:
            return error.retry_after >= 1 and error.detail == self.leadership.lacks
        return False


Make = Callable[..., Instance]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    monkeypatch.setattr(bucket_lease, "POLL", 0.02)
    monkeypatch.setattr(bucket_lease, "AWAY", 0.02)
    made: list[Instance] = []

    def one(name: str = "", yields_after: float | None = None) -> Instance:
        made.append(Instance(open_place(f"file://{tmp_path}/bucket"), name, yields_after))
        return made[-1]

    yield one
    for instance in made:
        await instance.leadership.close()


async def test_an_instance_serves_nothing_until_its_data_is_there(make: Make) -> None:
    one = make()
    assert one.leadership.public.name == "waiting"
    assert one.refuses(reading=True)
    await one.acquire()
    assert one.leadership.public.name == "opening"
    assert one.refuses(reading=True)
    one.leadership.fence()  # the schema is brought up to date before it serves
    one.leadership.ready()
    assert not one.refuses(reading=False)
    assert one.leadership.lacks is None


async def test_the_lease_is_kept_for_longer_than_its_period(make: Make) -> None:
    one, other = make(), make()
    await one.write()
    waiting = asyncio.create_task(other.acquire())
    done, _ = await asyncio.wait([waiting], timeout=2 * PERIOD)
    assert not done
    assert one.leadership.sure
    waiting.cancel()


async def test_after_a_release_the_next_instance_has_the_lease(make: Make) -> None:
    one, other = make(), make()
    ours = await one.write()
    waiting = asyncio.create_task(other.acquire())
    assert await one.leadership.release()
    await waiting
    theirs, before = other.lease.ours, other.lease.previous
    assert (before.holder, before.released) == (ours.holder, True)
    assert theirs.term == ours.term + 1
    assert one.state is State.RELEASED
    assert one.refuses(reading=True)
    assert not await one.leadership.release()


async def test_while_the_bucket_is_away_an_instance_reads_and_comes_back(make: Make) -> None:
    one = make()
    await one.write()
    one.bucket.error = StorageUnavailable()
    await until(lambda: one.state is State.LAPSED)
    assert one.refuses(reading=False)
    assert not one.refuses(reading=True)
    with pytest.raises(NotTheWriter):
        one.leadership.fence()
    one.bucket.error = None
    await until(lambda: one.state is State.LEADING)


async def test_a_bucket_that_denies_is_retried_by_the_holder_and_ends_a_candidate(make: Make) -> None:
    one, other = make(), make()
    await one.write()
    one.bucket.error = StorageDenied(reason="403")
    await until(lambda: one.state is State.LAPSED)
    one.bucket.error = None
    await until(lambda: one.state is State.LEADING)
    other.bucket.error = StorageDenied(reason="403 Forbidden")
    with pytest.raises(StartupFailure, match="403 Forbidden"):
        await other.acquire()


async def test_a_bucket_that_begins_to_deny_ends_a_waiting_candidate(make: Make) -> None:
    one, other = make(), make()
    await one.write()
    waiting = asyncio.create_task(other.acquire())
    await until(lambda: other.state is State.WAITING)
    other.bucket.error = StorageDenied(reason="403 Forbidden")
    with pytest.raises(StartupFailure, match="403 Forbidden"):
        await waiting


async def test_an_instance_is_over_when_another_one_has_taken_over(make: Make) -> None:
    one, other = make(), make()
    await one.write()
    one.bucket.error = StorageUnavailable()
    await other.write()
    assert not one.leadership.sure
    one.bucket.error = None
    with pytest.raises(StartupFailure, match="has taken over"):
        await one.leadership.until_over()
    assert one.state is State.LOST
    assert one.refuses(reading=True)
    assert not await one.leadership.release()
    assert other.leadership.sure


async def test_an_instance_that_acquired_the_lease_while_it_stopped_releases_it(make: Make) -> None:
    one, other = make(), make()
    one.bucket.go_on.clear()
    waiting = asyncio.create_task(one.acquire())
    await until(one.bucket.asked.is_set)
    waiting.cancel()
    await asyncio.wait([waiting])
    releasing = asyncio.create_task(one.leadership.release())
    one.bucket.go_on.set()
    assert await releasing
    assert (await other.write()).term > 0


async def test_an_instance_that_stops_while_the_bucket_is_opened_neither_waits_nor_acquires(
    make: Make, tmp_path: Path
) -> None:
    one, other = make(), make()
    opening, go_on = threading.Event(), threading.Event()

    def open_slowly(name: str, timeout: float) -> FolderObject:
        opening.set()
        go_on.wait()
        return one.bucket

    one.lease._open = open_slowly
    waiting = asyncio.create_task(one.acquire())
    await until(opening.is_set)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not await one.leadership.release()
    go_on.set()
    assert (await other.write()).term > 0
    assert other.lease.previous.term == 0


async def test_only_an_instance_that_yields_heeds_a_request_and_only_after_its_time(make: Make) -> None:
    one, other = make("one", yields_after=PERIOD), make("other")
    await one.write()
    over = asyncio.create_task(one.leadership.until_over())
    waiting = asyncio.create_task(other.acquire())
    done, _ = await asyncio.wait([over], timeout=PERIOD * 0.8)
    assert not done
    await over
    assert await one.leadership.release()
    await waiting
