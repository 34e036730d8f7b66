"""The rules of the lease, on a folder and with a clock of the test's own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from session_manager.domain.errors import StorageError, StorageUnavailable
from session_manager.leadership.bucket_lease import TRUST, Lease, LeaseLost, decoded
from session_manager.storage.conditional import FolderObject, Versioned
from session_manager.storage.places import open_place

PERIOD = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Flaky(FolderObject):
    """Loses the answer of the next call, or the call itself."""

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


class Bench:
    """Several machines with one folder, each with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self._place = open_place(f"file://{folder}")

    def one(self) -> Flaky:
        return Flaky(self._place, "writer")

    def machine(self, period: float = PERIOD) -> tuple[Lease, Clock, Flaky]:
        clock, store = Clock(), self.one()
        return Lease(store, period, clock=clock), clock, store

    def stored(self) -> dict[str, object]:
        found = self.one().read()
        assert found is not None
        return dict(json.loads(found.content))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "bucket")


def test_the_first_one_takes_it_and_there_was_nobody_before(bench: Bench) -> None:
    lease, _, _ = bench.machine()
    ours, before = lease.try_acquire() or pytest.fail("not taken")
    assert before.term == 0
    assert ours.term > 1_600_000_000, "terms start at the clock, should the object ever be lost"
    assert lease.held


def test_another_one_waits_while_it_is_renewed_and_takes_it_a_period_after_it_was_last_seen_to_change(
    bench: Bench,
) -> None:
    holder, _, _ = bench.machine()
    assert holder.try_acquire()
    other, clock, _ = bench.machine()
    for _ in range(5):
        assert other.try_acquire() is None
        clock.now += PERIOD - 1
        holder.renew()
    assert other.try_acquire() is None  # the last renewal is seen only now
    clock.now += PERIOD - 1
    assert other.try_acquire() is None
    clock.now += 1
    ours, before = other.try_acquire() or pytest.fail("not taken")
    assert ours.term == before.term + 1
    assert bench.stored()["holder"] == ours.holder


def test_the_period_that_counts_is_that_of_the_holder(bench: Bench) -> None:
    holder, _, _ = bench.machine(period=300)
    assert holder.try_acquire()
    other, clock, _ = bench.machine(period=1)
    assert other.try_acquire() is None
    clock.now += 299
    assert other.try_acquire() is None
    clock.now += 1
    assert other.try_acquire()


def test_the_holder_stops_trusting_before_anybody_can_take_it(bench: Bench) -> None:
    holder, clock, _ = bench.machine()
    assert holder.try_acquire()
    clock.now += PERIOD * TRUST - 0.001
    assert holder.held
    clock.now += 0.002
    assert [holder.held, holder.remaining] == [False, 0]


def test_it_is_the_time_of_asking_that_counts_and_not_that_of_the_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, clock, store = bench.machine()
    slow = store.replace

    def after_a_while(content: bytes, version: str | None) -> str:
        new = slow(content, version)
        clock.now += PERIOD
        return new

    monkeypatch.setattr(store, "replace", after_a_while)
    assert holder.try_acquire()
    assert holder.remaining == 0


def test_a_released_one_is_taken_at_once(bench: Bench) -> None:
    first, _, _ = bench.machine()
    ours, _ = first.try_acquire() or pytest.fail("not taken")
    first.release()
    assert not first.held
    second, _, _ = bench.machine()
    theirs, before = second.try_acquire() or pytest.fail("not taken")
    assert before.released
    assert (before.term, before.holder) == (ours.term, ours.holder)
    assert theirs.term == ours.term + 1


def test_who_was_stopped_and_lost_it_neither_renews_nor_releases_what_is_not_its_own(bench: Bench) -> None:
    stopped, clock, _ = bench.machine()
    assert stopped.try_acquire()
    other, theirs, _ = bench.machine()
    assert other.try_acquire() is None
    theirs.now += PERIOD
    assert other.try_acquire()
    before = bench.stored()
    assert stopped.held, "its clock has not told it yet"
    with pytest.raises(LeaseLost):
        stopped.renew()
    assert stopped.remaining == 0
    with pytest.raises(LeaseLost):
        stopped.release()
    assert bench.stored() == before
    clock.now += PERIOD
    other.renew()


def test_a_renewal_whose_answer_was_lost_is_no_loss(bench: Bench) -> None:
    holder, _, store = bench.machine()
    assert holder.try_acquire()
    store.lose_answer = True
    with pytest.raises(StorageError):
        holder.renew()
    holder.renew()
    assert holder.held


def test_an_acquisition_whose_answer_was_lost_is_told_whom_it_replaced(bench: Bench) -> None:
    first, _, _ = bench.machine()
    ours, _ = first.try_acquire() or pytest.fail("not taken")
    first.release()
    second, _, store = bench.machine()
    store.lose_answer = True
    with pytest.raises(StorageError):
        second.try_acquire()
    _, before = second.try_acquire() or pytest.fail("not taken")
    assert before.holder == ours.holder
    second.renew()


def test_a_release_is_tried_again(bench: Bench) -> None:
    holder, _, store = bench.machine()
    assert holder.try_acquire()
    store.away = True
    with pytest.raises(StorageError):
        holder.release()
    assert not holder.held
    store.away = False
    holder.release()
    assert bench.stored()["released"] is True


def test_while_the_bucket_is_away_the_lease_ends_by_the_clock_and_comes_back_if_nobody_took_it(bench: Bench) -> None:
    holder, clock, store = bench.machine()
    assert holder.try_acquire()
    store.away = True
    clock.now += PERIOD
    with pytest.raises(StorageError):
        holder.renew()
    assert holder.remaining == 0
    store.away = False
    holder.renew()
    assert holder.held


def test_of_two_that_want_it_at_once_one_gets_it(bench: Bench) -> None:
    machines = [bench.machine()[0] for _ in range(4)]
    assert sum(machine.try_acquire() is not None for machine in machines) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"term": 1}'])
def test_what_is_no_record_counts_as_nobodys_after_a_period(bench: Bench, content: bytes) -> None:
    assert decoded(content) is None
    bench.one().replace(content, None)
    lease, clock, _ = bench.machine()
    assert lease.try_acquire() is None
    clock.now += PERIOD
    assert lease.try_acquire()


def test_the_record_survives_the_way_through_the_object(bench: Bench) -> None:
    lease = Lease(bench.one(), PERIOD, "pod-7")
    ours, _ = lease.try_acquire() or pytest.fail("not taken")
    found = bench.one().read()
    assert found is not None
    assert decoded(found.content) == ours
    assert dataclasses.asdict(ours)["instance"] == "pod-7"
