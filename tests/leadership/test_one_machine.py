"""One machine with pods, with the lease in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from session_manager.activity.link import Link
from session_manager.activity.machine import CLAIMS, MachineLease
from session_manager.domain.errors import ActivityUnavailable, AnotherMachine, StartupFailure
from session_manager.domain.lease import LeaseOutcome
from session_manager.leadership.leadership import ONE_MACHINE, Leadership, State
from session_manager.runtime.process.machine import MachineFile
from tests.waiting import until

LONG = 600.0  # seconds; a test ends what has to end earlier
QUICK = 0.1
STAYS = 6 * QUICK


class Recorder:
    """A link that records for each claim whether it may follow another machine, and the answer."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.claims: list[tuple[bool, str]] = []

    async def script(self, script: Any, args: Any) -> Any:
        answer = await self._link.script(script, args)
        self.claims.append((args[-1] == 1, answer[-1 if len(answer) > 2 else 0].decode()))
        return answer

    async def until_claimed(self, times: int) -> None:
        """Wait for this many claims from now on."""
        count = len(self.claims) + times
        await until(lambda: len(self.claims) >= count)


class Named:
    """The id of a machine that is known by its name."""

    def open(self) -> str:
        return "other"

    def close(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def make(link: Link, tmp_path: Path) -> AsyncIterator[Any]:
    """A function that begins one machine, by the name of its folder.

    ``period`` is that of the lease in Redis; a ``quick`` machine claims it often.
    """
    async with AsyncExitStack() as stack:

        async def make_one(
            name: str, *, quick: bool = False, recorder: Recorder | None = None, **options: Any
        ) -> Leadership:
            lease = MachineLease(recorder or link, MachineFile(tmp_path / name), LONG)  # type: ignore[arg-type]
            lease.open()
            if quick:
                lease.pause = QUICK / CLAIMS
            machine = Leadership(lease, ONE_MACHINE, **options)
            stack.push_async_callback(machine.close)
            stack.push_async_callback(machine.release)
            await machine.begin()
            return machine

        yield make_one


@pytest.fixture
def other(link: Link) -> MachineLease:
    lease = MachineLease(link, Named(), LONG)
    lease.open()
    return lease


async def expire(link: Link) -> None:
    """End the lease as if its holder had not renewed it in time."""
    await link.execute("HSET", "machine", "until", 1)


async def test_the_first_machine_has_the_pods_at_once_and_the_next_one_after_a_release(make):
    one, two = await make("one"), await make("two", quick=True)
    assert (one.state, one.lacks, two.state) == (State.LEADING, None, State.WAITING)
    assert (one.public.name, two.public.name) == ("held", "waiting")
    await one.confirm()
    one.check()
    with pytest.raises(AnotherMachine, match="serves once that one has stopped") as rejected:
        two.check(reading=True)
    assert (rejected.value.http_status, rejected.value.retry_after) == (503, 2)
    with pytest.raises(ActivityUnavailable):
        await two.confirm()
    await one.release()
    await asyncio.wait_for(two.until_held(), 20)
    two.check()


async def test_a_silent_machine_is_replaced_only_after_a_period_of_claims(make, other, link):
    recorder = Recorder(link)
    await other.claim()
    two = await make("two", quick=True, recorder=recorder)
    await link.execute("DEL", "machine")
    await two.until_held()
    after = [each for each in recorder.claims if each[1] != "taken"]
    assert after == [(False, "expired")] * CLAIMS + [(True, "held")]


async def test_a_machine_that_claims_again_meanwhile_keeps_the_pods(make, other, link):
    recorder = Recorder(link)
    await other.claim()
    two = await make("two", quick=True, recorder=recorder)
    for _ in range(3):
        await link.execute("DEL", "machine")
        await recorder.until_claimed(1)
        assert (await other.claim()).outcome is LeaseOutcome.HELD
        await recorder.until_claimed(2)
    assert two.state is State.WAITING
    assert {answer for _, answer in recorder.claims} == {"taken", "expired"}


async def test_a_machine_that_never_saw_another_one_there_begins_at_once(make, other, link):
    await other.claim()
    await expire(link)
    assert (await make("two")).state is State.LEADING


async def test_a_holder_continues_if_redis_forgot_it_and_has_lost_if_another_machine_was_there(make, other, link):
    clock = Clock()
    one = await make("one", clock=clock)
    for forget in (("DEL", "machine"), ("HSET", "machine", "until", 1)):
        await link.execute(*forget)
        clock.now += LONG
        assert not one.sure
        await one.confirm()
        assert one.sure
    await expire(link)
    await other.claim()
    await other.release()
    one.check()  # it cannot know yet
    clock.now += LONG
    with pytest.raises(AnotherMachine, match="has taken over"):
        await one.confirm()
    with pytest.raises(AnotherMachine):
        one.check(reading=True)
    with pytest.raises(StartupFailure, match="has taken over the pods"):
        await one.until_over()
    await one.release()
    assert await link.execute("HGET", "machine", "id") == b"other"


async def test_only_a_machine_that_yields_heeds_a_waiting_one_and_only_after_its_time(make, link):
    clock = Clock()
    one = await make("one", quick=True, yields_after=STAYS, clock=clock)
    stays = await make("one", quick=True, clock=clock)
    recorder = Recorder(link)
    await make("two", quick=True, recorder=recorder)
    over = [asyncio.create_task(each.until_over()) for each in (one, stays)]
    clock.now += STAYS * 0.9
    await until(lambda: len(recorder.claims) > 3)
    assert not any(each.done() for each in over)
    clock.now += STAYS
    await over[0]
    assert not over[1].done()
    over[1].cancel()


async def test_the_last_front_door_of_a_machine_releases_the_pods(make, link):
    one, again = await make("one"), await make("one")
    two = await make("two", quick=True)
    assert not await one.release()
    assert await link.execute("HGET", "machine", "until") != b"0"
    assert (again.state, two.state) == (State.LEADING, State.WAITING)
    assert await again.release()
    await asyncio.wait_for(two.until_held(), 20)


def test_the_id_is_stored_where_only_its_owner_reads_it(tmp_path):
    first, second = MachineFile(tmp_path), MachineFile(tmp_path)
    known = first.open()
    assert second.open() == known
    assert (tmp_path / "machine").stat().st_mode & 0o777 == 0o600
    assert not first.close()
    assert second.close()
    assert not second.close(), "it is closed already"
    (tmp_path / "machine").write_text(known[:7])
    assert len(MachineFile(tmp_path).open()) == len(known), "an id that a crash has cut off is made again"
