"""Wait until earlier work is finished, so that it is not measured."""

from __future__ import annotations

import asyncio

from benchmarks.cluster.product import Product
from benchmarks.progress import say

QUIET = 0.05  # of a core: below that, the work triggered by the creation is finished
LOOK_FOR = 3.0  # seconds
QUIET_WITHIN = 120.0


async def quiet(product: Product) -> None:
    """Wait until the operator is idle, for a limited time."""
    try:
        async with asyncio.timeout(QUIET_WITHIN):
            while True:
                before = product.operator.cpu
                await asyncio.sleep(LOOK_FOR)
                if product.operator.cpu - before < QUIET * LOOK_FOR:
                    return
    except TimeoutError:
        say("the operator does not become idle; measured anyway")
