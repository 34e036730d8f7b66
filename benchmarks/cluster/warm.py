"""A pool of ready pods under a burst of wakes, compared with a client that only claims such pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.cluster.product import SMALL, Product, until
from benchmarks.front import gathered
from benchmarks.progress import say
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import PODS

Json = dict[str, Any]

CLASS = "warm"
MANAGER = "benchmark"
SETTLE = 3.0  # seconds for the work of the node after a start
POOL = f"{names.WARM_LABEL}={CLASS}"
CLAIMED = names.SESSION_LABEL
LABEL = "/metadata/labels/" + names.WARM_LABEL.replace("/", "~1")
CLAIM: list[Json] = [
    {"op": "test", "path": LABEL, "value": CLASS},
    {"op": "remove", "path": LABEL},
    {"op": "add", "path": "/metadata/labels/claimed", "value": "yes"},
    {"op": "replace", "path": "/metadata/ownerReferences", "value": []},
]


@dataclass(frozen=True, slots=True)
class Burst:
    """``offered``: calls started per second. ``reached``: calls answered per second. ``cold``: without a warm pod."""

    offered: float
    reached: float
    p50_ms: float
    p99_ms: float
    cold: int


@dataclass(frozen=True, slots=True)
class Calls:
    """``seconds``: duration of each call, ascending. ``ends``: time of each answer, ascending, on one clock."""

    seconds: list[float]
    ends: list[float]

    def burst(self, offered: float, cold: int) -> Burst:
        reached = (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])
        return Burst(offered, reached, self._quantile(0.5), self._quantile(0.99), cold)

    def _quantile(self, part: float) -> float:
        return self.seconds[min(len(self.seconds) - 1, int(part * len(self.seconds)))] * 1e3


async def paced(work: Callable[[Any], Awaitable[None]], items: Sequence[Any], rate: float) -> Calls:
    """Make one call for each item, and start ``rate`` of them per second."""
    began = perf_counter()

    async def one(number: int, item: Any) -> tuple[float, float]:
        await asyncio.sleep(began + number / rate - perf_counter())
        at = perf_counter()
        await work(item)
        now = perf_counter()
        return now - at, now

    found = await asyncio.gather(*(one(number, item) for number, item in enumerate(items)))
    return Calls(sorted(seconds for seconds, _ in found), sorted(end for _, end in found))


class Pool:
    def __init__(self, product: Product, size: int) -> None:
        self._product = product
        self._size = size

    async def ready(self) -> list[Json]:
        pods, _ = await self._product.cluster.list(PODS, POOL)
        return [pod for pod in pods if _is_ready(pod)]

    async def filled(self) -> None:
        """Wait until the pool is full and none of its pods is starting."""

        async def full() -> bool:
            all_of_it, _ = await self._product.cluster.list(PODS, POOL)
            return len(all_of_it) == self._size and all(map(_is_ready, all_of_it))

        began = perf_counter()
        await until(full, 0.5)
        say(f"the pool is filled after {perf_counter() - began:.0f} s")
        await asyncio.sleep(SETTLE)

    async def burst(self, sessions: Sequence[str], rate: float, work: Callable[[Any], Awaitable[None]]) -> Burst:
        calls = await paced(work, sessions, rate)
        pods, _ = await self._product.cluster.list(PODS, CLAIMED)
        cold = sum(pod["metadata"]["ownerReferences"][0]["kind"] != names.SESSION_KIND for pod in pods)
        return calls.burst(rate, cold)

    async def emptied(self, sessions: Sequence[str]) -> None:
        """Put all sessions to sleep, and wait until they have no pod."""
        await gathered(self._product.sleep, sessions)

        async def none() -> bool:
            pods, _ = await self._product.cluster.list(PODS, CLAIMED)
            return not pods

        await until(none, 0.5)


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def _floor(product: Product, pool: Pool, rate: float) -> Burst:
    """Claim a ready pod with one patch and send it one request: the least that any product must do."""
    cluster = product.cluster
    async with aiohttp.ClientSession() as client:

        async def claim(pod: Json) -> None:
            await cluster.json_patch(PODS, pod["metadata"]["name"], CLAIM, MANAGER)
            url = f"http://{pod['status']['podIP']}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}/chat"
            async with client.post(url, json={"message": "hello"}) as response:
                response.raise_for_status()
                await response.read()

        calls = await paced(claim, await pool.ready(), rate)
    claimed, _ = await cluster.list(PODS, "claimed=yes")
    await gathered(lambda pod: cluster.delete(PODS, pod["metadata"]["name"], uid=pod["metadata"]["uid"]), claimed)
    return calls.burst(rate, 0)


async def measure(product: Product, size: int, rate: float, rates: Sequence[float]) -> dict[str, Burst]:
    """Measure ``created``, ``sleeping`` and ``floor`` at ``rate``, then sleeping sessions at ``rates``."""
    await product.make_class(CLASS, warm=size, resources=SMALL)
    pool, sessions, found = Pool(product, size), list[str](), dict[str, Burst]()

    async def create_and_chat(_: str) -> None:
        session = await product.create(CLASS)
        sessions.append(session)
        await product.chat(session)

    async def run(name: str, rate: float, work: Callable[[Any], Awaitable[None]]) -> Burst:
        burst = found[name] = await pool.burst(sessions or [""] * size, rate, work)
        _tell(name, burst)
        await pool.emptied(sessions)
        await pool.filled()
        return burst

    await pool.filled()
    await run("created", rate, create_and_chat)
    found["floor"] = await _floor(product, pool, rate)
    _tell("floor", found["floor"])
    await pool.filled()
    await run("sleeping", rate, product.chat)
    for faster in rates:
        if is_saturated(await run(f"sleeping at {faster:g}/s", faster, product.chat)):
            break
    return found


def is_saturated(burst: Burst) -> bool:
    return burst.reached < 0.8 * burst.offered


def _tell(name: str, burst: Burst) -> None:
    say(f"{name}: {burst.reached:.0f}/s, p50 {burst.p50_ms:.0f} ms, p99 {burst.p99_ms:.0f} ms, {burst.cold} cold")
