"""Gives freed memory back to the kernel.

The allocator of glibc keeps what was freed between pieces that are still in use, so after a burst of large requests a
process would stay as large as it was. Other allocators have no such calls, and nothing is done there.
"""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import suppress
from functools import partial

from session_manager.aio.tasks import in_thread

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
LARGE = 128 * 1024  # bytes from which on a piece is mapped by itself; glibc would raise that to 32 MiB
ARENAS = 2  # heaps that threads use; more would each keep what their threads have freed
EVERY = 5.0  # seconds; a call takes 50 µs, or 1 ms if 30 MB were freed


def prepare() -> None:
    """Keep large pieces apart, so that each is given back when it is freed. Call this before threads are started."""
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, ARENAS)


async def give_back() -> None:
    """Trim the heap from time to time, until cancelled."""
    try:
        trim = partial(ctypes.CDLL(None).malloc_trim, 0)
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.sleep(EVERY)
        await in_thread(trim, "trim")
