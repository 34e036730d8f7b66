"""Everything a fault can hit on a cluster: two front doors, an operator, Redis, a database, pods of twenty sessions.

The front doors and the operator run beside the cluster, where each can be killed alone; the pods are real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from session_manager.runtime.kubernetes import names
from tests.cluster.world import IMAGE, OperatorProcess, kubectl
from tests.faults.journal import Delivery
from tests.faults.load import Load
from tests.faults.records import Database
from tests.faults.world import World
from tests.servers.redis import RedisServer
from tests.waiting import until

BYSTANDERS = 3
CLASSES = {"quick": "0.2", "slow": "0.6"}  # name -> seconds of work
IDLE = 12  # seconds; longer than waking all of them takes
AT_ONCE = 5


class ClusterWorld(World):
    """``bystanders``: sessions that no test wakes. ``scaler`` of both classes."""

    def __init__(
        self, folder: Path, redis: RedisServer, database: Database, seed: int, namespace: str, scaler: str
    ) -> None:
        given = {name: os.environ[name] for name in ("HOME", "KUBECONFIG") if name in os.environ}
        super().__init__(
            folder, redis, database, seed, SESSION_RUNTIME="kubernetes", SESSIONS_NAMESPACE=namespace, **given
        )
        self.namespace = namespace
        self.operator = OperatorProcess(namespace, redis.url, folder / "operator.log")
        self.bystanders: list[str] = []
        self._scaler = scaler

    async def start(self) -> None:
        for name, work in CLASSES.items():
            await asyncio.to_thread(self._make_class, name, work)
        self.operator.start()
        await self.one.start()
        await self.two.start()
        await until(self._both_are_ready, 30)
        for number in range(SESSIONS + BYSTANDERS):
            body = {"user_id": f"user-{number}", "class": list(CLASSES)[number % 2]}
            created = await self.call("POST", "/session/create", json=body)
            (self.sessions if number < SESSIONS else self.bystanders).append(created["uuid"])
        await self._wake_all()

    async def _wake_all(self) -> None:
        """Wait until the pods work, so that the fault hits them."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def wake(session: str) -> None:
            async with gate:
                headers = {"Prefer": "wait=60"}
                await self.call("POST", f"/session/{session}/chat", json={"message": "wake up"}, headers=headers)

        await asyncio.gather(*map(wake, self.sessions))

    def _make_class(self, name: str, work: str) -> None:
        spec = {
            "image": IMAGE,
            "command": ["python3", "faults/agent.py"],
            "env": [{"name": "WORK", "value": work}],
            "gracePeriodSeconds": 1,
            "idleTimeoutSeconds": IDLE,
            "scaler": self._scaler,
        }
        body = {"apiVersion": names.API_VERSION, "kind": names.CLASS_KIND, "metadata": {"name": name}, "spec": spec}
        kubectl("-n", self.namespace, "create", "-f", "-", stdin=json.dumps(body))

    async def _both_are_ready(self) -> bool:
        for door in (self.one, self.two):
            async with self._client.get(f"{door.url}/readyz") as response:
                if response.status != 200:
                    return False
        return True

    async def stop(self) -> None:
        await super().stop()
        if self.operator.running:
            await asyncio.to_thread(self.operator.stop, signal.SIGTERM)

    def load(self, hang_up: float = 0.0) -> Load:
        """Send two hundred messages."""
        return Load(self.addresses, self.sessions, self.seed, hang_up, in_a_row=6, at_any_time=4)

    def deliveries(self) -> dict[str, list[Delivery]]:
        """Do nothing: the journals are deleted with the pods."""
        return {}

    async def asleep(self) -> bool:
        sleeping = await self.call("GET", f"/sessions?status=sleeping&limit={SESSIONS}")
        return len(sleeping["sessions"]) == SESSIONS and not await asyncio.to_thread(self.pod_names)

    def pod_names(self) -> list[str]:
        """Return the pods of sessions."""
        words = ["get", "pods", "-l", names.SESSION_LABEL, "-o", "name"]
        return kubectl("-n", self.namespace, *words).split()

    async def woken_bystanders(self) -> list[str]:
        """Check that sleeping sessions stay asleep."""
        states: list[Any] = [await self.call("GET", f"/session/{session}") for session in self.bystanders]
        return [f"a session that nobody wakes is {state}" for state in states if state["status"] != "created"]

    def bugs(self) -> list[str]:
        failed = [event for event in self.operator.log_events() if event in OPERATOR_BUGS]
        return super().bugs() + [f"the operator logged {event}" for event in failed]


SESSIONS = 20
OPERATOR_BUGS = frozenset({"loop.ended", "scaler.failed", "task.failed", "redis.listener", "redis.prepare"})
