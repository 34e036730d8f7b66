"""From a message to a sleeping session to its reply, compared with a plain Deployment that goes from 0 to 1."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.cluster.product import Product, until
from benchmarks.progress import say
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS, Cluster

Json = dict[str, Any]
Try = Callable[[], Awaitable[float]]

BARE = "bare"
SELECTED = {"app": BARE}
SELECTOR = f"app={BARE}"
KNOCK_EVERY = 0.005  # seconds between two requests to a pod that does not answer yet, as in the product's probe
MANAGER = "benchmark"


class Bare:
    """A Deployment with the pod of a session that no scaler manages."""

    def __init__(self, cluster: Cluster, client: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._client = client

    async def make(self, session: str) -> None:
        """Create it from the template of this session."""
        theirs = await self._cluster.get(DEPLOYMENTS, names.child_name(session))
        template = theirs["spec"]["template"]
        template["metadata"]["labels"] = SELECTED
        spec = {"replicas": 0, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": SELECTED}}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": BARE}, "spec": spec}
        await self._cluster.create(DEPLOYMENTS, {**body, "spec": {**spec, "template": template}}, MANAGER)

    async def wake(self) -> float:
        """Return the seconds from the patch to the first reply."""
        _, version = await self._cluster.list(PODS, SELECTOR)
        address = asyncio.create_task(self._address(version))
        began = perf_counter()
        await self._scale(1)
        await self._reply(await address)
        return perf_counter() - began

    async def sleep(self) -> None:
        await self._scale(0)
        await until(self._gone)

    async def _scale(self, replicas: int) -> None:
        await self._cluster.merge_patch(DEPLOYMENTS, BARE, {"spec": {"replicas": replicas}}, MANAGER)

    async def _address(self, version: str) -> str:
        async for event in self._cluster.watch(PODS, version, SELECTOR):
            pod = event["object"]
            if ip := pod.get("status", {}).get("podIP"):
                return f"http://{ip}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}"
        raise RuntimeError("the plain pod got no address")

    async def _reply(self, address: str) -> None:
        while True:
            try:
                async with self._client.post(f"{address}/chat", json={"message": "hello"}) as response:
                    await response.read()
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(KNOCK_EVERY)

    async def _gone(self) -> bool:
        pods, _ = await self._cluster.list(PODS, SELECTOR)
        return not pods


async def compare(product: Product, scalers: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each try, alternating: one list for each scaler, and ``bare``."""
    async with aiohttp.ClientSession() as client:
        bare = Bare(product.cluster, client)
        tries: dict[str, Try] = {}
        for scaler in scalers:
            await product.make_class(scaler, scaler=scaler)
            session = await product.create(scaler)
            await product.chat(session)
            await product.put_to_sleep(session)
            tries[scaler] = _try_of(product, session)
        await bare.make(session)
        await _try_bare(bare)
        tries[BARE] = lambda: _try_bare(bare)
        return await _alternate(tries, rounds)


async def _alternate(tries: dict[str, Try], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in tries}
    order = list(tries)
    for number in range(rounds):
        for name in order:
            found[name].append(await tries[name]())
        order = [*order[1:], order[0]]
        last = ", ".join(f"{name} {values[-1] * 1e3:.0f} ms" for name, values in found.items())
        say(f"wake {number + 1} of {rounds}: {last}")
    return found


def _try_of(product: Product, session: str) -> Try:
    async def wake() -> float:
        began = perf_counter()
        await product.chat(session)
        seconds = perf_counter() - began
        await product.put_to_sleep(session)
        return seconds

    return wake


async def _try_bare(bare: Bare) -> float:
    seconds = await bare.wake()
    await bare.sleep()
    return seconds
