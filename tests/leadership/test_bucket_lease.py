"""The rules of the lease in a bucket, on a folder and with a clock of the test's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.domain.errors import StorageError, StorageUnavailable
from session_manager.leadership.bucket_lease import LEASE, TRUST, BucketLease, Record
from session_manager.leadership.leadership import ONE_WRITER, Leadership, State
from session_manager.storage.conditional import FolderObject, Versioned
from session_manager.storage.places import Place, open_place

PERIOD = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Flaky(FolderObject):
    """An object that loses the answer of the next call, or every call."""

    lose_answer = False
    away = False

    def read(self) -> Versioned | None:
        if self.away:
            raise StorageUnavailable
        return super().read()

    def replace(self, content: bytes, version: str | None) -> str:
        if self.away:
            raise StorageUnavailable
        new = super().replace(content, version)
        if self.lose_answer:
            self.lose_answer = False
            raise StorageUnavailable
        return new


class Candidate:
    """One machine with a clock of its own."""

    def __init__(self, place: Place, period: float, instance: str = "") -> None:
        self.clock = Clock()
        self.object = Flaky(place, LEASE)

        def open_object(name: str, timeout: float) -> FolderObject:
            return self.object if name == LEASE else FolderObject(place, name)

        self.lease = BucketLease(open_object, period, instance, clock=self.clock)
        self.leadership = Leadership(self.lease, ONE_WRITER, clock=self.clock)

    @property
    def held(self) -> bool:
        return self.leadership.sure

    async def claim(self) -> bool:
        """Claim or renew the lease. Return True if it is held then."""
        await self.leadership.claim()
        return self.held


class Bench:
    """Several machines with one folder."""

    def __init__(self, folder: Path) -> None:
        self._place = open_place(f"file://{folder}")
        self.candidates: list[Candidate] = []

    def one(self) -> FolderObject:
        return FolderObject(self._place, LEASE)

    def machine(self, period: float = PERIOD, instance: str = "") -> Candidate:
        self.candidates.append(Candidate(self._place, period, instance))
        return self.candidates[-1]

    def stored(self) -> dict[str, object]:
        found = self.one().read()
        assert found is not None
        return dict(json.loads(found.content))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "bucket")
    yield made
    for candidate in made.candidates:
        await candidate.leadership.close()


async def test_the_first_candidate_takes_the_lease_and_finds_no_previous_holder(bench: Bench) -> None:
    first = bench.machine()
    assert await first.claim()
    assert first.lease.previous.term == 0
    assert first.lease.ours.term > 1_600_000_000, "terms start at the clock, in case the object is ever lost"


async def test_another_candidate_waits_for_a_period_since_it_last_saw_a_renewal(bench: Bench) -> None:
    holder, other = bench.machine(), bench.machine()
    assert await holder.claim()
    for _ in range(5):
        assert not await other.claim()
        other.clock.now += PERIOD - 1
        await holder.claim()
    assert not await other.claim()  # the last renewal is seen only now
    other.clock.now += PERIOD - 1
    assert not await other.claim()
    other.clock.now += 1
    assert await other.claim()
    assert other.lease.ours.term == other.lease.previous.term + 1
    assert bench.stored()["holder"] == other.lease.ours.holder


async def test_a_candidate_waits_for_the_period_of_the_holder(bench: Bench) -> None:
    holder, other = bench.machine(period=300), bench.machine(period=1)
    assert await holder.claim()
    assert not await other.claim()
    other.clock.now += 299
    assert not await other.claim()
    other.clock.now += 1
    assert await other.claim()


async def test_the_holder_stops_trusting_before_a_candidate_can_take_over(bench: Bench) -> None:
    holder = bench.machine()
    assert await holder.claim()
    holder.clock.now += PERIOD * TRUST - 0.001
    assert holder.held
    holder.clock.now += 0.002
    assert not holder.held


async def test_a_renewal_is_trusted_from_when_it_was_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = bench.machine()
    replace = holder.object.replace

    def slow(content: bytes, version: str | None) -> str:
        new = replace(content, version)
        holder.clock.now += PERIOD
        return new

    monkeypatch.setattr(holder.object, "replace", slow)
    assert not await holder.claim()
    assert holder.leadership.state is State.PREPARING


async def test_a_released_lease_is_taken_at_once(bench: Bench) -> None:
    first, second = bench.machine(), bench.machine()
    assert await first.claim()
    ours = first.lease.ours
    assert await first.leadership.release()
    assert not first.held
    assert await second.claim()
    before = second.lease.previous
    assert before.released
    assert (before.term, before.holder) == (ours.term, ours.holder)
    assert second.lease.ours.term == ours.term + 1


async def test_a_holder_that_was_stopped_and_replaced_neither_renews_nor_releases_the_lease(bench: Bench) -> None:
    renewing, releasing, other = bench.machine(), bench.machine(), bench.machine()
    assert await renewing.claim()
    assert await renewing.leadership.release()
    assert await releasing.claim()
    assert not await other.claim()
    other.clock.now += PERIOD
    assert await other.claim()
    before = bench.stored()
    assert releasing.held, "its clock cannot show it yet"
    assert not await releasing.leadership.release()
    assert bench.stored() == before
    other.clock.now += PERIOD
    await other.claim()
    assert other.held


async def test_a_renewal_finds_that_the_lease_was_lost(bench: Bench) -> None:
    stopped, other = bench.machine(), bench.machine()
    assert await stopped.claim()
    assert not await other.claim()
    other.clock.now += PERIOD
    assert await other.claim()
    before = bench.stored()
    assert stopped.held, "its clock cannot show it yet"
    assert not await stopped.claim()
    assert stopped.leadership.state is State.LOST
    assert not await stopped.leadership.release()
    assert bench.stored() == before


async def test_a_renewal_whose_answer_was_lost_is_not_a_loss(bench: Bench) -> None:
    holder = bench.machine()
    assert await holder.claim()
    holder.object.lose_answer = True
    with pytest.raises(StorageError):
        await holder.claim()
    assert await holder.claim()


async def test_an_acquisition_whose_answer_was_lost_still_finds_the_previous_holder(bench: Bench) -> None:
    first, second = bench.machine(), bench.machine()
    assert await first.claim()
    await first.leadership.release()
    second.object.lose_answer = True
    with pytest.raises(StorageError):
        await second.claim()
    assert await second.claim()
    assert second.lease.previous.holder == first.lease.ours.holder
    assert await second.claim()


async def test_a_release_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = bench.machine(period=0.1)
    await holder.claim()
    replace, tries = holder.object.replace, []

    def fails_once(content: bytes, version: str | None) -> str:
        tries.append(content)
        if len(tries) == 1:
            raise StorageUnavailable
        return replace(content, version)

    monkeypatch.setattr(holder.object, "replace", fails_once)
    assert await holder.leadership.release()
    assert not holder.held
    assert bench.stored()["released"] is True


async def test_while_the_bucket_is_away_the_lease_lapses_and_comes_back_if_it_is_still_free(bench: Bench) -> None:
    holder = bench.machine()
    assert await holder.claim()
    holder.object.away = True
    holder.clock.now += PERIOD
    with pytest.raises(StorageError):
        await holder.claim()
    assert not holder.held
    holder.object.away = False
    assert await holder.claim()


async def test_one_of_several_candidates_takes_the_lease(bench: Bench) -> None:
    assert sum([await bench.machine().claim() for _ in range(4)]) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"term": 1}'])
async def test_an_object_that_is_not_a_record_is_free_after_a_period(bench: Bench, content: bytes) -> None:
    assert Record.decode(content) is None
    bench.one().replace(content, None)
    candidate = bench.machine()
    assert not await candidate.claim()
    candidate.clock.now += PERIOD
    assert await candidate.claim()


async def test_the_object_holds_the_record(bench: Bench) -> None:
    candidate = bench.machine(instance="pod-7")
    await candidate.claim()
    found = bench.one().read()
    assert found is not None
    assert Record.decode(found.content) == candidate.lease.ours
    assert dataclasses.asdict(candidate.lease.ours)["instance"] == "pod-7"
