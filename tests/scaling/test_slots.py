"""Slots are shared fairly among users, in any order of arrival. All times are virtual."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_manager.domain.quota import Quota, Quotas
from session_manager.scaling.slots import Slots
from tests.sim.clock import VirtualLoop

LONGEST = 60.0  # seconds that a start takes: those that never get ready end then


@dataclass(frozen=True)
class Wake:
    """A session that wants a pod ``at`` a time. Its start takes ``start`` seconds, and then it stays ``awake``."""

    user: int
    at: float
    start: float
    awake: float


@dataclass
class Run:
    """What happened: when each wake asked, in that order, and when it could start, by its number in the list."""

    wakes: list[Wake]
    slots: Slots
    asked: dict[int, float] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    starting: dict[int, set[int]] = field(default_factory=dict)
    pods: dict[int, set[int]] = field(default_factory=dict)

    def total(self, sets: dict[int, set[int]]) -> int:
        return sum(map(len, sets.values()))

    async def all(self) -> None:
        await asyncio.gather(*map(self.one, range(len(self.wakes))))

    async def one(self, number: int) -> None:
        wake, loop = self.wakes[number], asyncio.get_running_loop()
        await asyncio.sleep(wake.at)
        self.asked[number] = loop.time()
        await self.slots.ask(str(number), str(wake.user))
        self.begun[number] = loop.time()
        self.pods.setdefault(wake.user, set()).add(number)
        self.starting.setdefault(wake.user, set()).add(number)
        self.check()
        await asyncio.sleep(wake.start)
        self.starting[wake.user].discard(number)
        self.slots.started(str(number))
        await asyncio.sleep(wake.awake)
        self.pods[wake.user].discard(number)
        self.slots.left(str(number))

    def check(self) -> None:
        """No limit is exceeded."""
        assert self.total(self.starting) <= self.slots.max_wakes
        assert not self.slots.max_awake or self.total(self.pods) <= self.slots.max_awake
        for user in self.pods:
            quota = self.slots.quota_of(str(user))
            assert not quota.wakes or len(self.starting[user]) <= quota.wakes
            assert not quota.awake or len(self.pods[user]) <= quota.awake

    async def watch_for_idle_slots(self) -> None:
        """Whenever nothing happens for a moment, a session waits only because of a limit."""
        while True:
            await asyncio.sleep(0.25)
            for number in self.asked.keys() - self.begun.keys():
                user = self.wakes[number].user
                quota = self.slots.quota_of(str(user))
                assert (
                    self.total(self.starting) == self.slots.max_wakes
                    or (self.slots.max_awake and self.total(self.pods) == self.slots.max_awake)
                    or (quota.wakes and len(self.starting.get(user, ())) == quota.wakes)
                    or (quota.awake and len(self.pods.get(user, ())) == quota.awake)
                )


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def happened(wakes: list[Wake], slots: Slots) -> Run:
    run = Run(wakes, slots)
    watching = asyncio.create_task(run.watch_for_idle_slots())
    await run.all()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    if not watching.cancelled():
        watching.result()
    return run


USERS = st.integers(0, 5)
TIMES = st.integers(0, 400).map(lambda tenths: tenths / 10 + 0.0625)  # never at a moment of the watch
STARTS = st.sampled_from([0.5, 2.0, 20.0, LONGEST])
WAKES = st.lists(st.builds(Wake, USERS, TIMES, STARTS, st.sampled_from([0.0, 5.0, 120.0])), max_size=40)
ROBBER = [Wake(1, 0.0625, LONGEST, 0.0)] * 34


@settings(max_examples=60, deadline=None)
@given(wakes=WAKES, max_wakes=st.integers(1, 8), limit=st.integers(0, 4), awake=st.integers(0, 4))
def test_limits_hold_no_slot_is_idle_and_all_start_in_the_order_of_their_user(
    wakes: list[Wake], max_wakes: int, limit: int, awake: int
):
    async def check() -> None:
        quotas = Quotas(Quota(wakes=limit, awake=awake))
        run = await happened(wakes, Slots(max_wakes, awake and awake * 2, quotas.of))
        for user in range(6):
            begun = [run.begun[number] for number in run.asked if wakes[number].user == user]
            assert begun == sorted(begun)

    in_virtual_time(check())


@settings(max_examples=60, deadline=None)
@given(wakes=WAKES, at=TIMES, max_wakes=st.integers(1, 8), limit=st.integers(0, 4))
@example(wakes=ROBBER, at=1.0625, max_wakes=4, limit=0)
@example(wakes=[*ROBBER, *(Wake(user, 0.0625, LONGEST, 0.0) for user in range(2, 6))], at=1.0625, max_wakes=4, limit=1)
def test_a_user_with_one_session_waits_for_one_start_of_as_many_users_as_there_are_slots(
    wakes: list[Wake], at: float, max_wakes: int, limit: int
):
    """Nobody who asks more often, or later, makes anybody wait longer."""

    async def check() -> None:
        run = await happened([*wakes, Wake(99, at, 0.5, 0.0)], Slots(max_wakes, 0, Quotas(Quota(wakes=limit)).of))
        number = len(wakes)
        rounds = math.ceil(len({wake.user for wake in run.wakes}) / max_wakes)
        assert run.begun[number] - run.asked[number] <= rounds * LONGEST

    in_virtual_time(check())


def test_a_user_whose_pods_never_get_ready_leaves_slots_for_others():
    async def check() -> None:
        run = await happened([*ROBBER, Wake(2, 1.0, 0.5, 0.0)], Slots(32, 0, Quotas(Quota(wakes=8)).of))
        assert run.begun[34] == run.asked[34]
        waited = sorted(run.begun[number] - run.asked[number] for number in range(34))
        assert waited == [0.0] * 8 + [LONGEST] * 8 + [2 * LONGEST] * 8 + [3 * LONGEST] * 8 + [4 * LONGEST] * 2

    in_virtual_time(check())


@settings(max_examples=60, deadline=None)
@given(wakes=WAKES, given_up=st.sets(st.integers(0, 39)), max_wakes=st.integers(1, 4))
def test_no_slot_is_lost_when_sessions_give_up(wakes: list[Wake], given_up: set[int], max_wakes: int):
    async def check() -> None:
        slots = Slots(max_wakes, 0, Quotas(Quota(wakes=2, awake=3)).of)
        asked = [slots.ask(str(number), str(wake.user)) for number, wake in enumerate(wakes)]
        for number in given_up:
            slots.left(str(number))
        for number in range(len(wakes)):
            slots.started(str(number))
            slots.left(str(number))
        assert all(each.done() for each in asked)
        again = [slots.ask(f"again {number}", f"user {number}") for number in range(max_wakes + 1)]
        assert [each.done() for each in again] == [True] * max_wakes + [False]
        for number in range(max_wakes + 1):
            slots.left(f"again {number}")

    in_virtual_time(check())


def test_pods_that_were_there_before_count_and_a_waiting_session_whose_pod_is_found_waits_no_longer():
    async def check() -> None:
        slots = Slots(4, 0, Quotas(Quota(awake=2)).of)
        slots.found("old", "ada")
        slots.found("older", "ada")
        waits = slots.ask("new", "ada")
        assert not waits.done()
        assert slots.crowded() == {"ada": 1}
        assert slots.why("new") == "waiting until one of the user's awake pods (2) goes to sleep"
        slots.found("new", "ada")
        assert waits.cancelled()
        assert slots.pods_of("ada") == {"old", "older", "new"}
        another = slots.ask("another", "ada")
        slots.left("old")
        assert not another.done()
        slots.left("older")
        assert another.done()
        assert not slots.crowded()

    in_virtual_time(check())


def test_a_full_machine_says_so():
    async def check() -> None:
        slots = Slots(4, 1, Quotas().of)
        slots.found("old", "ada")
        waits = slots.ask("new", "eve")
        assert slots.squeezed() == 1
        assert slots.why("new") == "waiting until one of all awake pods (1) goes to sleep"
        slots.left("old")
        assert waits.done()

    in_virtual_time(check())
