"""The memory and CPU of an idle operator and front door, by the number of sleeping sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cluster import localkube
from benchmarks.cluster.children import SIMULATED, present
from benchmarks.cluster.product import Product, kinds_of
from benchmarks.cluster.rest import quiet
from benchmarks.front import gathered
from benchmarks.progress import say

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Use:
    """Resident MiB, and seconds of CPU per minute. ``cluster``: seconds of CPU per minute by part of the cluster."""

    operator_mib: float
    front_mib: float
    operator_cpu: float
    front_cpu: float
    cluster_cpu: dict[str, float]


async def use(product: Product, seconds: float) -> Use:
    """Return the current figures."""
    programs = (product.operator, product.front.process)
    before, parts = [each.cpu for each in programs], localkube.cpu()
    await asyncio.sleep(seconds)
    minute = 60 / seconds
    operator, front = ((each.cpu - first) * minute for each, first in zip(programs, before, strict=True))
    cluster = {name: (used - parts[name]) * minute for name, used in localkube.cpu().items() if name in parts}
    return Use(programs[0].memory / MIB, programs[1].memory / MIB, operator, front, cluster)


async def measure(product: Product, numbers: Sequence[int], seconds: float) -> dict[int, Use]:
    """Measure without sessions, and with each of ``numbers``."""
    await product.make_class("idle", scaler="native", template=SIMULATED)
    found, made = dict[int, Use](), 0
    for number in (0, *numbers):
        await gathered(lambda _: product.create("idle"), range(number - made))
        made = number
        await present(product.cluster, kinds_of("native"), number)
        await quiet(product)
        now = found[number] = await use(product, seconds)
        say(f"{number:,} sessions: operator {now.operator_mib:.0f} MiB, {now.operator_cpu:.2f} s of CPU per minute")
    return found
