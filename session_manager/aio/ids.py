"""The clock of leases, and ids of messages.

Random bytes are read in batches: a system call for each id would also yield to another thread.
"""

from __future__ import annotations

import os
import time

_SIZE = 10
_AT_ONCE = 256
_MILLISECOND = 1_000_000  # nanoseconds
_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def monotonic() -> float:
    """Return seconds on a clock that also runs while the machine is suspended, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def new_id() -> str:
    """Return a UUIDv7: the time in milliseconds, then 74 random bits.

    Ids that grow with time are added at the end of an index. Their order has no meaning: clocks differ and jump.
    """
    try:
        raw = _random.pop()
    except IndexError:
        data = os.urandom(_SIZE * _AT_ONCE)
        _random.extend(data[at : at + _SIZE] for at in range(_SIZE, len(data), _SIZE))
        raw = data[:_SIZE]
    at, text = f"{time.time_ns() // _MILLISECOND:012x}", raw.hex()
    variant = "89ab"[raw[0] & 3]
    return f"{at[:8]}-{at[8:]}-7{text[2:5]}-{variant}{text[5:8]}-{text[8:]}"
