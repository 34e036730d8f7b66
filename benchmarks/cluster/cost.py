"""The cost of one create, wake, sleep and delete in the cluster: API requests by client, and writes to etcd."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from benchmarks.cluster import localkube
from benchmarks.cluster.children import present
from benchmarks.cluster.kubectl import ACCOUNTS
from benchmarks.cluster.product import Product, kinds_of, until
from benchmarks.front import gathered
from benchmarks.progress import say
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS, SESSIONS

BEFORE = 10.0  # seconds without any action, to measure what the cluster writes on its own
AFTER = 6.0  # seconds that belong to a step: its objects trigger later requests
OURSELVES = ("kubectl", "Python")  # the benchmark's own requests, by user agent
SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost for one session. ``requests`` by client; None if the cluster has no audit log."""

    requests: dict[str, float] | None
    etcd_writes: float | None


class Audit:
    """Reads new entries of the API server's audit log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size

    def since(self) -> Counter[str]:
        """Return the requests by client since the last call, without watches."""
        with self._path.open("rb") as log:
            log.seek(self._read)
            lines = log.read().rpartition(b"\n")[0]
        self._read += len(lines)
        events = (json.loads(line) for line in lines.splitlines() if line)
        clients = (_client(event) for event in events if event["verb"] != "watch" and _is_end(event))
        return Counter(client for client in clients if client not in OURSELVES)


def _is_end(event: dict[str, Any]) -> bool:
    return bool(event["stage"] == "ResponseComplete")


def _client(event: dict[str, Any]) -> str:
    user: str = event["user"]["username"]
    account = user.rpartition(":")[2]
    if user.startswith(SERVICE_ACCOUNT) and account in ACCOUNTS:
        return account
    return str(event.get("userAgent", user)).partition("/")[0]


async def measure(product: Product, scaler: str, number: int) -> dict[str, Cost]:
    """Run each step for ``number`` sessions, one after the other."""
    name = f"cost-{scaler}"
    await product.make_class(name, scaler=scaler)
    sessions: list[str] = []
    kinds = kinds_of(scaler)

    async def create() -> None:
        sessions.extend([await product.create(name) for _ in range(number)])
        await present(product.cluster, kinds, number)

    async def wake() -> None:
        for session in sessions:
            await product.chat(session)

    async def sleep() -> None:
        await gathered(product.sleep, sessions)
        await until(lambda: product.count_is(PODS, 0), 0.5)

    async def delete() -> None:
        await gathered(product.delete, sessions)
        await until(lambda: product.count_is(SESSIONS, 0), 0.5)
        await until(lambda: product.count_is(DEPLOYMENTS, 0), 0.5)

    steps = {"create": create, "wake": wake, "sleep": sleep, "delete": delete}
    return {step: await _cost(f"{step}, {scaler}", work, number) for step, work in steps.items()}


async def _cost(step: str, work: Callable[[], Awaitable[None]], number: int) -> Cost:
    log = localkube.audit_log()
    audit = None if log is None else Audit(log)
    first = localkube.etcd_writes()
    await asyncio.sleep(BEFORE)
    before, began = localkube.etcd_writes(), monotonic()
    idle = audit.since() if audit else Counter[str]()
    await work()
    await asyncio.sleep(AFTER)
    after, seconds = localkube.etcd_writes(), monotonic() - began
    writes = None
    if first is not None and before is not None and after is not None:
        writes = (after - before - (before - first) * seconds / BEFORE) / number
    requests = None
    if audit is not None:
        found = audit.since()
        requests = {name: (found[name] - idle[name] * seconds / BEFORE) / number for name in sorted(found)}
    told = "?" if writes is None else f"{writes:.1f}"
    say(f"{step}: {told} writes to etcd, {'?' if requests is None else f'{sum(requests.values()):.1f}'} requests")
    return Cost(requests, writes)
