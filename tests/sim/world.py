"""The world: its processes, their faults, and the way to rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from session_manager.domain.times import micros
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore, inline
from session_manager.store.sqlite.connection import Connection
from tests.sim.clients import Call, Clients
from tests.sim.clock import VirtualLoop
from tests.sim.gates import Gate
from tests.sim.invariants import Facts, Invariants
from tests.sim.pods import Machines
from tests.sim.processes import IDLE, LEASE, REPAIR, TTL, FrontDoor, ScalerHost, Surroundings
from tests.sim.redis import SimRedis
from tests.sim.store import Database

DOORS = 2
QUIET = 240.0  # seconds within which all work must end after the last fault


class _Errors(logging.Handler):
    """Every error in the log fails the run."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(self.format(record))


class _Steady(Random):
    """Fixed latencies, so that one process does not shift the timing of another."""

    def choice(self, seq: Any) -> Any:
        return seq[len(seq) // 2]

    def random(self) -> float:
        return 1.0


class World:
    """``seed`` determines latencies and durations; with None they are constant."""

    def __init__(self, seed: int | None = None) -> None:
        random = _Steady() if seed is None else Random(seed)
        self.expire_at_end = seed is not None and seed % 4 == 0
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(self._on_exception)
        self.failures: list[str] = []
        self._errors = _Errors(self.failures)
        logging.getLogger("session_manager").addHandler(self._errors)
        store, connection = self._open_store()
        self.around = Surroundings(
            self.loop, SimRedis(self.loop, random), Database(store, self.loop), Machines(random), self.failures
        )
        self.redis, self.database, self.machines = self.around.redis, self.around.database, self.around.machines
        self.facts = Facts(connection.raw, self.loop)
        self._random = random
        self._lives = 0
        self._snapshot: dict[bytes, Any] = {}
        self.processes: list[FrontDoor | ScalerHost] = []
        self.doors = [self._front_door(i) for i in range(DOORS)]
        self.scaler = self._scaler()
        self.clients = Clients(self.around, self.facts.deleted)
        self.sessions: list[str] = []
        self.invariants = Invariants(self.around, self.facts, self.clients)

    def _open_store(self) -> tuple[SqliteStore, Connection]:
        opened: list[Connection] = []

        def workers(writing: Connection, reading: Callable[[], Connection], patience: float) -> Any:
            opened.append(writing)
            return inline(writing, reading, patience)

        store = SqliteStore(Path(":memory:"), clock=self.loop.unix_micros, workers=workers)
        self.loop.run_until_complete(store.start())
        return store, opened[0]

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(f"{context['message']}: {context.get('exception')!r}")

    # -- processes ---------------------------------------------------------------------------------------------------

    def _gate(self, name: str) -> Gate:
        self._lives += 1
        return Gate(f"{name}.{self._lives}", self._random)

    def _front_door(self, number: int) -> FrontDoor:
        door = FrontDoor(self.around, self._gate(f"door{number}"))
        self.processes.append(door)
        return door

    def _scaler(self) -> ScalerHost:
        host = ScalerHost(self.around, self._gate("scaler"))
        self.processes.append(host)
        return host

    def restart_door(self, number: int) -> None:
        """Crash it, unless it has crashed already, and start a replacement."""
        self.doors[number].gate.crash()
        self.doors[number] = self._front_door(number)

    def restart_scaler(self, *, with_pods: bool) -> None:
        """Crash it. Its pods end with it if it is their parent."""
        self.scaler.gate.crash()
        if with_pods:
            for pod in list(self.machines.pods.values()):
                self.machines.remove(pod)
        self.scaler = self._scaler()

    def flush_redis(self) -> None:
        self.redis.flush()
        self.invariants.forget_retired()

    def restart_redis(self, seconds: float, *, old: bool = False) -> None:
        """Restart Redis, empty or with the last snapshot."""
        self.redis.restart(seconds, self._snapshot if old else None)
        self.invariants.forget_retired()

    def keep_snapshot(self) -> None:
        self._snapshot = self.redis.snapshot()

    # -- sessions ----------------------------------------------------------------------------------------------------

    def create(self, class_name: str = "default") -> str:
        session = f"s{len(self.sessions) + 1}"
        new = NewSession(session, "user", class_name, micros(TTL))
        self.loop.run_until_complete(self.database.store.create_session(new))
        self.sessions.append(session)
        return session

    # -- time --------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        self.loop.run_for(seconds)

    def check(self) -> None:
        self.invariants.check()
        assert not self.failures, "\n".join(self.failures)

    def calm(self) -> None:
        """End all faults, and restart the crashed processes."""
        self.redis.down_until = self.database.down_until = 0.0
        self.machines.moods.clear()
        self.machines.births.clear()
        for process in (*self.doors, self.scaler):
            process.gate.traps.clear()
            process.gate.stalled_until = process.link.deaf_until = 0.0
        for number, door in enumerate(self.doors):
            if door.gate.dead:
                self.restart_door(number)
        if self.scaler.gate.dead:
            self.restart_scaler(with_pods=False)

    def come_to_rest(self, *, expire: bool = False) -> None:
        """Check that, without faults, all work ends and pods sleep, and that with ``expire`` sessions expire too."""
        self.calm()
        self._until(lambda: not self.facts.unfinished(), "messages never get a result", self.facts.unfinished)
        self._until(lambda: not self._open_calls(), "clients never get an answer", self._open_calls)
        self._until(self._asleep, "pods never sleep", self.invariants.hot_state)
        self._until(lambda: not self.facts.unpurged(), "teardowns do not end", self.facts.unpurged)
        self.invariants.at_rest()
        if expire:
            self.run(TTL + LEASE)
            self._until(lambda: not self.facts.unexpired(), "sessions do not expire", self.facts.unexpired)
            self.run(REPAIR)
            self.invariants.at_rest(expired=True)

    def _until(self, condition: Callable[[], bool], complaint: str, show: Callable[[], object]) -> None:
        came = self.loop.run_until(condition, QUIET, look_every=1.0)
        self.check()
        assert came, f"{complaint}: {show()}"

    def _open_calls(self) -> list[Call]:
        return [each for each in self.clients.calls if not each.task.done() and not each.door.gate.dead]

    def _asleep(self) -> bool:
        return not self.machines.pods and not self.invariants.hot_state()

    def close(self) -> None:
        """End every task, including those of crashed processes."""
        logging.getLogger("session_manager").removeHandler(self._errors)
        self.loop.set_exception_handler(lambda loop, context: None)
        for process in self.processes:
            process.gate.crash()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.run_for(0.001)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.run_until_complete(self.database.store.close())
        self.loop.close()


__all__ = ["IDLE", "World"]
