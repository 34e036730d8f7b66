"""Histories that failed once, or that everybody fears, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.actions import Moods, Send, SetTrap, Sleep, play
from tests.sim.gates import Fault
from tests.sim.pods import Mood
from tests.sim.processes import LEASE
from tests.sim.world import World

DOOR0, DOOR1, SCALER = 0, 1, 2


@pytest.fixture
def world() -> Iterator[World]:
    """One session that never had a pod, in a Redis that has settled."""
    world = World()
    world.create()
    world.run(LEASE + 1)
    try:
        yield world
    finally:
        world.close()


def test_redis_fails_while_a_front_door_subscribes(world: World) -> None:
    """The loop that takes announced sessions must not end."""
    world.restart_door(0)
    play(world, SetTrap(DOOR0, Fault.REFUSE, at="before redis.subscribe"), 1.0, Send(0))


def test_a_front_door_stalls_between_claim_and_delivery(world: World) -> None:
    """Its lease has run out, and nobody else took it, when it goes on: it must not renew it for ever."""
    world.doors[1].gate.crash()
    play(world, SetTrap(DOOR0, Fault.STALL, 1, "before store.get_message", LEASE + 1), Send(0), LEASE + 3)


def test_a_message_that_could_not_be_enqueued_keeps_its_place(world: World) -> None:
    """It was acknowledged, but is not in the inbox, when the next one comes: the first, which is, runs at that time."""
    play(
        world,
        Moods(0, (Mood.SLOW,)),
        Send(0),
        20.6,
        SetTrap(DOOR0, Fault.REFUSE, at="before redis.take"),
        Send(0),
        0.1,
        Send(1),
    )


def test_sleep_when_idle_is_forgotten_when_the_pod_is_gone(world: World) -> None:
    """A turn that took too long ends the pod, and with it the wish for sleep."""
    play(world, Moods(0, (Mood.HANG,)), Send(0), 3.0, Sleep(0, when_idle=True), 40.0)
    assert world.redis.look("HGET", "session:s1", "sleep") is None
