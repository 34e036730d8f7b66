"""Histories that failed once, or that everybody fears, step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.gates import Fault, Trap
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
