"""KEDA compared with native, with several hundred sessions each: cost, lag, and the speed of a wake.

Each has its own operator and front door, and both run at the same time, so that they are measured alike.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

from benchmarks.cluster.children import present
from benchmarks.cluster.idle import Use, use
from benchmarks.cluster.product import Product, kinds_of, until
from benchmarks.cluster.rest import quiet
from benchmarks.front import gathered
from benchmarks.progress import say
from session_manager.runtime.kubernetes.cluster import SCALED_OBJECTS

LOOK_EVERY = 2.0  # seconds between two checks whether KEDA watches all of them
KEDA, NATIVE = "keda", "native"


@dataclass(frozen=True, slots=True)
class Compared:
    """``alone``: with the native sessions only. ``both``: with those of KEDA as well, by the programs measured.

    ``watched_s``: from the first create until KEDA watched all of its sessions; None if that took too long.
    ``wakes_s``: from a message to its reply, alternating.
    """

    sessions: int
    alone: Use
    both: dict[str, Use]
    watched_s: float | None
    wakes_s: dict[str, list[float]]


async def measure(native: Product, keda: Product, number: int, wakes: int, seconds: float) -> Compared:
    with_native = await _make(native, NATIVE, number)
    alone = await use(native, seconds)
    say(f"{number} with native: the cluster uses {_told(alone)} s of CPU per minute")
    began = perf_counter()
    with_keda = await _make(keda, KEDA, number)
    watched = await _watched(keda, number)
    watched_s = perf_counter() - began if watched else None
    say(f"{number} with keda: {'not all' if watched_s is None else 'all'} watched after {perf_counter() - began:.0f} s")
    await quiet(keda)
    both_used = await asyncio.gather(use(native, seconds), use(keda, seconds))
    both = dict(zip((NATIVE, KEDA), both_used, strict=True))
    say(f"and {number} with keda: the cluster uses {_told(both[KEDA])} s of CPU per minute")
    found: dict[str, list[float]] = {NATIVE: [], KEDA: []}
    for one, other in zip(with_native[:wakes], with_keda[:wakes], strict=True):
        found[NATIVE].append(await _wake(native, one))
        found[KEDA].append(await _wake(keda, other))
    return Compared(number, alone, both, watched_s, found)


def _told(found: Use) -> str:
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in found.cluster_cpu.items())


async def _make(product: Product, scaler: str, number: int) -> list[str]:
    """Create sessions and wait for their children."""
    await product.make_class(scaler, scaler=scaler)
    sessions = await gathered(lambda _: product.create(scaler), range(number))
    await present(product.cluster, kinds_of(scaler), number)
    await quiet(product)
    return sessions


async def _watched(product: Product, number: int) -> bool:
    async def all_ready() -> bool:
        found, _ = await product.cluster.list(SCALED_OBJECTS)
        conditions = (each.get("status", {}).get("conditions", ()) for each in found)
        return (
            sum(any(one["type"] == "Ready" and one["status"] == "True" for one in own) for own in conditions) == number
        )

    try:
        await until(all_ready, LOOK_EVERY)
    except TimeoutError:
        return False
    return True


async def _wake(product: Product, session: str) -> float:
    began = perf_counter()
    await product.chat(session)
    seconds = perf_counter() - began
    await product.put_to_sleep(session)
    return seconds
