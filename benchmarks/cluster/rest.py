"""Waiting until what was done before is over, so that it does not count."""

from __future__ import annotations

import asyncio

from benchmarks.cluster.product import Product
from benchmarks.progress import say

QUIET = 0.05  # of a core: below that what the creation set off is over
LOOK_FOR = 3.0  # seconds
QUIET_WITHIN = 120.0


async def quiet(product: Product) -> None:
    """Wait until the operator has nothing to do, or until it seems that it always will."""
    try:
        async with asyncio.timeout(QUIET_WITHIN):
            while True:
                before = product.operator.cpu
                await asyncio.sleep(LOOK_FOR)
                if product.operator.cpu - before < QUIET * LOOK_FOR:
                    return
    except TimeoutError:
        say("the operator does not come to rest; measured as it is")
