"""Gives freed memory back to the kernel.

The allocator of glibc keeps what was freed between pieces that are still in use, so after a burst of large requests a
process would stay as large as it was. Other allocators have no such call, and nothing is done there.
"""

from __future__ import annotations

import asyncio
import ctypes
from functools import partial

from session_manager.aio.tasks import in_thread

EVERY = 5.0  # seconds; a call takes 50 µs, or 1 ms if 30 MB were freed


async def give_back() -> None:
    """Trim the heap from time to time, until cancelled."""
    try:
        trim = partial(ctypes.CDLL(None).malloc_trim, 0)
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.sleep(EVERY)
        await in_thread(trim, "trim")
