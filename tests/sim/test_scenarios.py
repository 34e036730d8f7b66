"""Histories that failed once, or that everybody fears, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.gates import Fault, Trap
from tests.sim.processes import LEASE
from tests.sim.world import World


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    try:
        yield world
    finally:
        world.close()


def test_redis_fails_while_a_front_door_subscribes(world: World) -> None:
    world.doors[0].gate.set_trap(Trap(Fault.REFUSE, at="before redis.subscribe"))
    session = world.create()
    world.run(1.0)
    world.clients.send(world.doors[0], session, "text")
    world.come_to_rest()


def test_a_front_door_stalls_between_claim_and_delivery(world: World) -> None:
    """Its lease has run out, and nobody else took it, when it goes on: it must not renew it for ever."""
    session = world.create()
    world.run(LEASE + 1)
    world.doors[1].gate.crash()
    world.doors[0].gate.set_trap(Trap(Fault.STALL, 1, "before store.get_message", LEASE + 1))
    world.clients.send(world.doors[0], session, "text")
    world.run(LEASE + 3)
    world.come_to_rest()
