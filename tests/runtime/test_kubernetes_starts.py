"""Starts that wait for the volume of the session, while the Session changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClassSpec, Storage
from tests.runtime.test_kubernetes_answering import POD, SESSION
from tests.waiting import until

CLASS = SessionClass("default")
OLD = SessionSpec(SESSION, "old", ClassSpec(CLASS, storage=Storage("1Gi")))
NEW = replace(OLD, uid="new")


class World:
    """Resources, pods and workloads in one. The volume is in use until ``leave``.

    ``found``: the Session, or why it cannot be woken.
    """

    def __init__(self) -> None:
        self.found: SessionSpec | PodCannotStart | None = OLD
        self.left = asyncio.Event()
        self.waits = False
        self.woken: list[str] = []
        world: Any = self
        self.runtime = KubernetesRuntime(world, world, world)

    def listen(self, listener: Any) -> None: ...

    async def wakeable(self, session: str) -> SessionSpec | None:
        if isinstance(self.found, PodCannotStart):
            raise self.found
        return self.found

    def of_session(self, session: str) -> list[PodView]:
        return [POD if self.left.is_set() else replace(POD, leaving=True)]

    async def change(self, session: str) -> None:
        self.waits = True
        await self.left.wait()

    async def wake(self, session: SessionSpec) -> None:
        self.woken.append(session.uid)

    async def answers(self, pod: PodView, probe: Any) -> bool:
        return True

    async def sleep(self, session: str) -> bool:
        return True

    async def start(self, then: SessionSpec | PodCannotStart | None) -> None:
        """Start the pod. The Session becomes ``then`` while the start waits for the volume."""
        starting = asyncio.create_task(self.runtime.start_pod(SESSION, CLASS, lambda _: None))
        await until(lambda: self.waits)
        self.found = then
        self.left.set()
        await starting


async def test_a_session_that_was_created_anew_during_the_wait_is_the_one_that_is_woken():
    world = World()
    await world.start(NEW)
    assert world.woken == ["new"]


async def test_a_session_that_was_deleted_during_the_wait_is_not_woken():
    world = World()
    with pytest.raises(Unavailable):
        await world.start(None)
    assert world.woken == []


async def test_a_session_that_was_suspended_during_the_wait_is_not_woken():
    world = World()
    with pytest.raises(PodCannotStart):
        await world.start(PodCannotStart("Suspended", "resume it"))
    assert world.woken == []
