"""The processes of the world, wired as in production: front doors, and the scaler with the owner of the pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from session_manager.activity.link import Link
from session_manager.activity.protocol import Claim
from session_manager.activity.redis import RedisActivity
from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.domain.mode import AllAuto
from session_manager.domain.session_class import Probe, Redelivery, SessionClass
from session_manager.people.tokens import SECRET_NAME, Tokens
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.turns.adk import AdkHistory
from session_manager.turns.drain import Drains
from session_manager.turns.feed import Feed
from session_manager.turns.kit import Kit, TurnTools
from session_manager.turns.lifecycle import Lifecycle
from session_manager.turns.repair import Repair
from session_manager.turns.service import Turns
from tests.sim.clock import VirtualLoop
from tests.sim.gates import Gate
from tests.sim.pods import CLAIM, Machines, SimPodClient, SimRuntime
from tests.sim.redis import SimLink, SimRedis
from tests.sim.store import Database, gated

# Seconds. Shorter than in production but in the same proportion, so that a history of minutes runs in a moment.
LEASE = 6.0
HEARTBEAT = 10.0
REPAIR = 3.0
ANSWER_WITHIN = 4.0
BOOT_RETRY = 0.5
MAX_DRAINS = 3
MAX_WAKES = 2
TIMES = ScalerTimes(tick=2.0, heartbeat=HEARTBEAT, retry_first=2.0, retry_last=8.0)
IDLE, TTL, TURN = 12.0, 60.0, 25.0

CLASSES = {
    each.name: each
    for each in (
        SessionClass(
            "default",
            probe=Probe(startup_timeout=5.0),
            idle_timeout=IDLE,
            ttl=TTL,
            turn_timeout=TURN,
            grace_period=1.0,
        ),
        SessionClass(
            "idempotent",
            probe=Probe(startup_timeout=5.0),
            idle_timeout=IDLE,
            ttl=TTL,
            turn_timeout=TURN,
            grace_period=1.0,
            redelivery=Redelivery.IDEMPOTENT,
        ),
    )
}


class Classes:
    def get(self, name: str) -> SessionClass:
        if name not in CLASSES:
            raise InvalidInput(f"class: there is no {name}", "class")
        return CLASSES[name]


@dataclass(slots=True)
class Surroundings:
    """The things that all processes share."""

    loop: VirtualLoop
    redis: SimRedis
    database: Database
    machines: Machines
    failures: list[str]


class _Process:
    """One life of a process: its tasks, and its gate to everything else."""

    def __init__(self, around: Surroundings, gate: Gate) -> None:
        self.around = around
        self.gate = gate
        self.link = SimLink(around.redis, gate, around.loop)
        self.tasks: list[asyncio.Task[Any]] = []

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = self.around.loop.create_task(coroutine, name=f"{self.gate.name} {name}")
        task.add_done_callback(self._ended)
        self.tasks.append(task)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.around.failures.append(f"{task.get_name()} ended with {task.exception()!r}")


async def _patiently(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        try:
            return await start()
        except Unavailable:
            await asyncio.sleep(BOOT_RETRY)


class _WatchedActivity(RedisActivity):
    """Records the claim that the current task, and with it a delivery to a pod, belongs to."""

    def _claimed(self, *args: Any) -> Claim:
        claim = super()._claimed(*args)
        CLAIM.set(claim.token)
        return claim


class FrontDoor(_Process):
    def __init__(self, around: Surroundings, gate: Gate) -> None:
        super().__init__(around, gate)
        self.store = gated(around.database, gate)
        self.activity = _WatchedActivity(
            cast(Link, self.link), lease=LEASE, heartbeat=HEARTBEAT, has_unfinished=self.store.has_unfinished
        )
        kit = Kit(self.store, self.activity, Classes(), AllAuto())
        tokens = Tokens(partial(self.store.secret, SECRET_NAME))
        tools = TurnTools(SimPodClient(around.machines, gate), tokens, AdkHistory(self.store))
        self.drains = Drains(kit, tools, MAX_DRAINS, REPAIR)
        self.feed = Feed(kit, REPAIR)
        self.turns = Turns(kit, tools, self.drains, self.feed)
        self.lifecycle = Lifecycle(kit, SimRuntime(around.machines, gate))
        self.repair = Repair(kit, self.drains, self.lifecycle, REPAIR)
        self.spawn(self._boot(), "boot")

    async def _boot(self) -> None:
        await _patiently(self.activity.start)
        self.spawn(self.drains.run(), "ready")
        self.spawn(self.repair.run(), "repair")


class ScalerHost(_Process):
    """The scaler, without a database, as the operator runs it."""

    def __init__(self, around: Surroundings, gate: Gate) -> None:
        super().__init__(around, gate)
        self.activity = RedisActivity(cast(Link, self.link), lease=LEASE, heartbeat=HEARTBEAT)
        self.runtime = SimRuntime(around.machines, gate)
        self.scaler = Scaler(ScalerKit(self.activity, Classes(), TIMES, MAX_WAKES), self.runtime)
        self.spawn(self._boot(), "boot")

    async def _boot(self) -> None:
        await _patiently(self.activity.start)
        await self.scaler.run()
