"""One contract for both leases: a hash in Redis, and an object in a bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from session_manager.activity.link import Link
from session_manager.activity.machine import MachineLease
from session_manager.domain.errors import StartupFailure
from session_manager.domain.lease import Lease, LeaseAnswer, LeaseOutcome
from session_manager.leadership.bucket_lease import BucketLease
from session_manager.leadership.leadership import ONE_MACHINE, ONE_WRITER, Leadership, State
from session_manager.storage.conditional import FolderObject
from session_manager.storage.places import open_place
from tests.waiting import until

PERIOD = 0.3

Make = Callable[..., tuple[Lease, Leadership]]


class Named:
    """The id of a machine that is known by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self) -> str:
        return self._name

    def close(self) -> bool:
        return True


@pytest.fixture(params=["bucket", "redis"])
async def make(request: pytest.FixtureRequest, link: Link, tmp_path: Path) -> AsyncIterator[Make]:
    place = open_place(f"file://{tmp_path}")
    made: list[Leadership] = []

    def one(name: str, yields_after: float | None = None) -> tuple[Lease, Leadership]:
        lease: Lease
        if request.param == "bucket":
            heeds = yields_after is not None
            lease = BucketLease(lambda asked, _: FolderObject(place, asked), PERIOD, name, heeds_requests=heeds)
        else:
            lease = MachineLease(link, Named(name), PERIOD)
            lease.open()
        role = ONE_WRITER if request.param == "bucket" else ONE_MACHINE
        made.append(Leadership(lease, role, yields_after=yields_after))
        return lease, made[-1]

    yield one
    for leadership in made:
        await leadership.close()


async def held(leadership: Leadership) -> bool:
    await leadership.claim()
    return leadership.sure


async def test_the_first_candidate_holds_the_lease_and_another_one_waits(make: Make) -> None:
    (first, _), (second, _) = make("one"), make("two")
    assert await first.claim() == LeaseAnswer(LeaseOutcome.HELD)
    for _ in range(3):
        assert (await first.claim()).outcome is LeaseOutcome.HELD
        assert await second.claim() == LeaseAnswer(LeaseOutcome.TAKEN, "one")
    assert not await second.release(), "only the holder can release"
    assert (await first.claim()).outcome is LeaseOutcome.HELD
    assert await first.release()
    assert (await second.claim()).outcome is LeaseOutcome.HELD


async def test_a_silent_holder_is_replaced_and_finds_that_it_lost(make: Make) -> None:
    (_, one), (_, two) = make("one"), make("two")
    assert await held(one)
    assert not await held(two)
    await until(partial(held, two))
    assert not one.sure, "a holder stops trusting before a candidate can take over"
    assert not await held(one)
    assert one.state is State.LOST
    with pytest.raises(StartupFailure, match="has taken over"):
        await one.until_over()
    assert not await one.release()
    assert await held(two)


async def test_a_lease_that_expired_without_another_holder_is_renewed(make: Make) -> None:
    _, one = make("one")
    assert await held(one)
    one.ready()
    await asyncio.sleep(PERIOD)
    assert (one.sure, one.state) == (False, State.LAPSED)
    assert await held(one)


async def test_a_candidate_is_heard_by_a_holder_that_yields(make: Make) -> None:
    (_, one), (_, two) = make("one", yields_after=0.0), make("two")
    await one.begin()
    await one.until_held()
    one.ready()
    await two.begin()
    await asyncio.wait_for(one.until_over(), 20)
    assert await one.release()
    await asyncio.wait_for(two.until_held(), 20)
