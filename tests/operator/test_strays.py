"""Stray Deployments, which are ended, and others, which are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from session_manager.activity.protocol import Desire
from session_manager.domain.session_class import SessionClass
from session_operator.strays import Strays

SESSION = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
PATIENCE = 30.0


def desire(**changed: Any) -> Desire:
    nothing = Desire(
        deleted=False,
        class_name="default",
        published="",
        retire="",
        failed_tries=0,
        wanted=False,
        due=False,
        pod="",
    )
    return Desire(**{**{name: getattr(nothing, name) for name in Desire.__slots__}, **changed})


class World:
    """One Deployment with one replica, and everything that a sweep asks about it."""

    def __init__(self) -> None:
        self.scaled_up_now = [SESSION]
        self.is_busy = False
        self.desired = desire()
        self.answer = "ASLEEP"
        self.exists = True
        self.slept: list[str] = []
        self.added: list[str] = []
        world: Any = self
        self.strays = Strays(world, world, world, world, PATIENCE)

    def scaled_up(self) -> list[str]:
        return self.scaled_up_now

    def busy(self, session: str) -> bool:
        return self.is_busy

    async def desire(self, session: str) -> Desire:
        return self.desired

    async def fence(self, session: str, session_class: SessionClass, *, force: bool = False) -> str:
        return self.answer

    async def add(self, session: str, messages: Any, session_class: SessionClass) -> bool:
        self.added.append(session)
        return False

    async def find(self, session: str) -> Any:
        return self if self.exists else None

    def spec(self, view: Any) -> Any:
        return self

    @property
    def class_spec(self) -> Any:
        return self

    @property
    def base(self) -> SessionClass:
        return SessionClass("default")

    async def sleep(self, session: str, unless: Callable[[], bool]) -> bool:
        if not unless():
            self.slept.append(session)
            self.scaled_up_now = []
        return not unless()


async def test_a_deployment_that_is_a_stray_for_long_is_ended():
    world = World()
    await world.strays.look(0)
    await world.strays.look(PATIENCE - 1)
    assert not world.slept
    await world.strays.look(PATIENCE)
    await world.strays.look(PATIENCE * 2)
    assert world.slept == [SESSION]


@pytest.mark.parametrize(
    "state",
    [
        {"is_busy": True},
        {"desired": desire(wanted=True)},
        {"desired": desire(deleted=True)},
        {"answer": "BUSY"},
        {"answer": "UNSETTLED"},
        {"exists": False},
    ],
)
async def test_a_deployment_that_is_in_use_is_left(state: dict[str, Any]):
    world = World()
    for name, value in state.items():
        setattr(world, name, value)
    await world.strays.look(0)
    await world.strays.look(PATIENCE)
    assert not world.slept


async def test_the_time_starts_again_after_it_was_busy():
    world = World()
    await world.strays.look(0)
    world.is_busy = True
    await world.strays.look(PATIENCE / 2)
    world.is_busy = False
    await world.strays.look(PATIENCE)
    assert not world.slept
    await world.strays.look(PATIENCE * 2)
    assert world.slept == [SESSION]


async def test_an_external_push_starts_the_pod_in_the_usual_way():
    world = World()
    world.desired = desire(pushed=True)
    await world.strays.look(0)
    await world.strays.look(PATIENCE)
    assert (world.added, world.slept) == ([SESSION], [])
