"""Work that takes milliseconds of processor time, beside the event loop.

One thread does all of it, one piece after the other: Python runs one thread at a time, so with several of them the
event loop would wait for each in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 32 * 1024  # bytes of JSON, for which a thread would cost more than it saves

_thread = ThreadPoolExecutor(1, "beside the event loop")


async def beside(work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Return what ``work`` returns, or raise what it raises, while the event loop serves others."""
    return await asyncio.get_running_loop().run_in_executor(_thread, partial(work, *args, **options))


async def by_size(size: int, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do work on ``size`` bytes: at once if they are few, and otherwise beside the event loop."""
    if size <= AT_ONCE:
        return work(*args, **options)
    return await beside(work, *args, **options)
