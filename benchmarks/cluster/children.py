"""The rate at which the children of new sessions appear, compared with a plain loop that creates the same objects."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from uuid import uuid4

import psutil

from benchmarks.cluster import localkube
from benchmarks.cluster.kubectl import namespace
from benchmarks.cluster.product import CountingCluster, Product, kinds_of, until
from benchmarks.cluster.rest import quiet
from benchmarks.front import gathered
from benchmarks.processes import cpu_of
from benchmarks.progress import say
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLASSES,
    SCALED_OBJECTS,
    SERVICES,
    SESSIONS,
    Resource,
)
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec, parse_class
from session_operator import manifests
from session_operator.manifests import RedisTrigger

Json = dict[str, Any]

ROUNDS = 4
MANAGER = "benchmark"
SIMULATED = {
    "nodeSelector": {"localkube/node": "kwok"},
    "tolerations": [{"key": "localkube/simulated", "operator": "Exists", "effect": "NoSchedule"}],
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Sessions per second with all their children present, for each round.

    ``product_cpu`` and ``loop_cpu``: seconds of CPU by process, over all rounds.
    """

    product: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    product_cpu: Counter[str] = field(default_factory=Counter)
    loop_cpu: Counter[str] = field(default_factory=Counter)
    sessions: int = 0


class Loop:
    """Creates a Session and its children with one POST each, and checks nothing."""

    def __init__(self, cluster: CountingCluster, class_spec: ClassSpec, kinds: tuple[Resource, ...]) -> None:
        self._cluster = cluster
        self._class = class_spec
        self._kinds = kinds

    async def create(self, _: object) -> None:
        uuid = str(uuid4())
        spec = {"classRef": {"name": self._class.name}, "owner": "ada"}
        body = {"apiVersion": names.API_VERSION, "kind": names.SESSION_KIND, "metadata": {"name": uuid}, "spec": spec}
        made = await self._cluster.create(SESSIONS, body, MANAGER)
        session = SessionSpec(uuid, made["metadata"]["uid"], self._class)
        for kind in self._kinds:
            await self._cluster.create(kind, _manifest(kind, session), MANAGER)


def _manifest(kind: Resource, session: SessionSpec) -> Json:
    if kind is SERVICES:
        return manifests.service(session)
    if kind is SCALED_OBJECTS:
        return manifests.scaled_object(session, RedisTrigger("127.0.0.1:6379"))
    deployment = manifests.deployment(session)
    deployment["spec"]["replicas"] = 0
    return deployment


async def present(cluster: CountingCluster, kinds: tuple[Resource, ...], number: int) -> None:
    """Wait until this many of each exist."""

    async def all_there() -> bool:
        return all([await cluster.count(kind) >= number for kind in kinds])

    await until(all_there, 0.2)


async def compare(product: Product, scaler: str, sessions: int) -> Rates:
    """Create ``sessions`` with the product and as many with the loop, in alternating rounds."""
    name, kinds = f"made-{scaler}", kinds_of(scaler)
    await product.make_class(name, scaler=scaler, template=SIMULATED)
    class_spec = parse_class(await product.cluster.get(CLASSES, name), 120, 86400)
    with namespace(f"bench-{secrets.token_hex(3)}") as other:
        cluster = CountingCluster(other)
        await cluster.start()
        loop, share = Loop(cluster, class_spec, kinds), sessions // ROUNDS
        rates = Rates(sessions=share * ROUNDS)
        for number in range(1, ROUNDS + 1):
            with _metered(product, rates.product_cpu):
                ours = await _rate(product.cluster, kinds, number, share, lambda _: product.create(name))
            with _metered(product, rates.loop_cpu):
                theirs = await _rate(cluster, kinds, number, share, loop.create)
            rates.product.append(ours)
            rates.loop.append(theirs)
            say(f"children {number} of {ROUNDS}, {scaler}: {ours:.0f}/s, the loop {theirs:.0f}/s")
            await quiet(product)
        await cluster.close()
    return rates


@contextmanager
def _metered(product: Product, used: Counter[str]) -> Iterator[None]:
    before = _cpu(product)
    yield
    used.update({name: seconds - before.get(name, 0.0) for name, seconds in _cpu(product).items()})


def _cpu(product: Product) -> dict[str, float]:
    ours = {"front door": product.front.process.cpu, "operator": product.operator.cpu}
    return {**ours, "benchmark": cpu_of(psutil.Process()) - sum(ours.values()), **localkube.cpu()}


async def _rate(
    cluster: CountingCluster,
    kinds: tuple[Resource, ...],
    round_: int,
    share: int,
    create: Callable[[object], Awaitable[object]],
) -> float:
    began = perf_counter()
    await gathered(create, range(share))
    await present(cluster, kinds, round_ * share)
    return share / (perf_counter() - began)
