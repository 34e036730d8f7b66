"""Which machine's pods count, on a real Redis: who takes the place when, and who has lost it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from session_manager.activity.link import Link
from session_manager.activity.machine import RedisMachines
from session_manager.activity.protocol import Seat
from session_manager.domain.errors import ActivityUnavailable, AnotherMachine, StartupFailure
from session_manager.leadership.one_machine import LOOKS, STAYS, MachineState, OneMachine
from session_manager.runtime.process.machine import MachineFile
from tests.waiting import until

LONG = 600.0  # seconds; what is to end in a test is ended by it
QUICK = 0.1


class Looks(RedisMachines):
    """Notes what it is asked and what it says."""

    def __init__(self, link: Link, period: float) -> None:
        super().__init__(link, period)
        self.said: list[tuple[bool, Seat]] = []

    async def hold(self, machine: str, *, believes: bool, follows: bool) -> tuple[Seat, str]:
        seat, other = await super().hold(machine, believes=believes, follows=follows)
        self.said.append((follows, seat))
        return seat, other


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def make(link: Link, tmp_path: Path) -> AsyncIterator[Any]:
    """A machine by the name of its folder, begun."""
    async with AsyncExitStack() as stack:

        async def make_one(name: str, machines: RedisMachines, period: float = QUICK, **options: Any) -> OneMachine:
            machine = OneMachine(machines, MachineFile(tmp_path / name), period, **{"yields": False, **options})
            machine.open()
            await machine.begin()
            stack.push_async_callback(machine.leave)
            return machine

        yield make_one


async def ended(link: Link) -> None:
    """As if whoever has the place had not claimed it in time."""
    await link.execute("HSET", "machine", "until", 1)


async def until_looked(looks: Looks, times: int) -> None:
    """So often from now on."""
    count = len(looks.said) + times
    await until(lambda: len(looks.said) >= count)


async def test_the_first_has_it_at_once_and_the_next_when_it_is_let_go(make, link):
    machines = RedisMachines(link, LONG)
    one, two = await make("one", machines, LONG), await make("two", RedisMachines(link, LONG))
    assert (one.state, one.lacks, two.state) == (MachineState.HELD, None, MachineState.WAITING)
    await one.confirm()
    one.check()
    with pytest.raises(AnotherMachine, match="serves once that one has stopped") as refused:
        two.check()
    assert (refused.value.http_status, refused.value.retry_after) == (503, 2)
    with pytest.raises(ActivityUnavailable):
        await two.confirm()
    await one.leave()
    await asyncio.wait_for(two.until_held(), 20)
    two.check()


async def test_a_machine_that_only_fell_silent_is_waited_for(make, link):
    other, looks = RedisMachines(link, LONG), Looks(link, LONG)
    await other.hold("other", believes=False, follows=True)
    two = await make("two", looks)
    await link.execute("DEL", "machine")
    await two.until_held()
    after = [each for each in looks.said if each[1] is not Seat.OTHER]
    assert after == [(False, Seat.AWAY)] * LOOKS + [(True, Seat.HELD)]


async def test_who_is_there_again_meanwhile_keeps_it(make, link):
    other, looks = RedisMachines(link, LONG), Looks(link, LONG)
    await other.hold("other", believes=False, follows=True)
    two = await make("two", looks)
    for _ in range(3):
        await link.execute("DEL", "machine")
        await until_looked(looks, 1)
        assert (await other.hold("other", believes=True, follows=True))[0] is Seat.HELD
        await until_looked(looks, 2)
    assert two.state is MachineState.WAITING
    assert {seat for _, seat in looks.said} == {Seat.OTHER, Seat.AWAY}


async def test_who_never_saw_another_one_there_begins_at_once(make, link):
    await RedisMachines(link, LONG).hold("other", believes=False, follows=True)
    await ended(link)
    assert (await make("two", RedisMachines(link, LONG), LONG)).state is MachineState.HELD


async def test_a_holder_goes_on_where_redis_forgot_it_and_is_lost_where_another_one_was_there(make, link):
    clock = Clock()
    one = await make("one", RedisMachines(link, LONG), LONG, clock=clock)
    for forget in (("DEL", "machine"), ("HSET", "machine", "until", 1)):
        await link.execute(*forget)
        clock.now += LONG
        assert not one.sure
        await one.confirm()
        assert one.sure
    await ended(link)
    await RedisMachines(link, LONG).hold("other", believes=False, follows=True)
    await RedisMachines(link, LONG).let_go("other")
    one.check()  # it cannot know yet
    clock.now += LONG
    with pytest.raises(AnotherMachine, match="has taken over"):
        await one.confirm()
    with pytest.raises(AnotherMachine):
        one.check()
    with pytest.raises(StartupFailure, match="has taken over the pods"):
        await one.until_over()
    await one.leave()
    assert await link.execute("HGET", "machine", "id") == b"other"


async def test_only_who_yields_hears_who_waits_and_not_at_once(make, link):
    clock = Clock()
    one = await make("one", RedisMachines(link, LONG), QUICK, yields=True, clock=clock)
    stays = await make("one", RedisMachines(link, LONG), QUICK, clock=clock)
    looks = Looks(link, LONG)
    await make("two", looks)
    over = [asyncio.create_task(each.until_over()) for each in (one, stays)]
    clock.now += STAYS * QUICK * 0.9
    await until(lambda: len(looks.said) > 3)
    assert not any(each.done() for each in over)
    clock.now += STAYS * QUICK
    await over[0]
    assert not over[1].done()
    over[1].cancel()


async def test_the_last_front_door_of_a_machine_lets_go(make, link):
    one, again = [await make("one", RedisMachines(link, LONG), LONG) for _ in range(2)]
    two = await make("two", RedisMachines(link, LONG))
    await one.leave()
    assert await link.execute("HGET", "machine", "until") != b"0"
    assert (again.state, two.state) == (MachineState.HELD, MachineState.WAITING)
    await again.leave()
    await asyncio.wait_for(two.until_held(), 20)


def test_the_id_is_kept_where_only_its_owner_reads_it(tmp_path):
    first, second = MachineFile(tmp_path), MachineFile(tmp_path)
    known = first.open()
    assert second.open() == known
    assert (tmp_path / "machine").stat().st_mode & 0o777 == 0o600
    assert not first.alone()
    assert second.alone()
    assert not second.alone(), "it is closed"
    (tmp_path / "machine").write_text(known[:7])
    assert len(MachineFile(tmp_path).open()) == len(known), "what a crash has cut off is made again"
