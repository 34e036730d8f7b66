"""Ids of messages, without a system call each: under load that also hands the interpreter to another thread."""

from __future__ import annotations

import os
import time

UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # the id of a session

_SIZE = 10
_AT_ONCE = 256
_MILLISECOND = 1_000_000  # nanoseconds
_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """A UUIDv7: the time in milliseconds, then 74 bits of the system's randomness.

    Ids that grow with time are added at the end of an index. They are never taken for an order: clocks differ and jump.
    """
    try:
        raw = _random.pop()
    except IndexError:
        data = os.urandom(_SIZE * _AT_ONCE)
        _random.extend(data[at : at + _SIZE] for at in range(_SIZE, len(data), _SIZE))
        raw = data[:_SIZE]
    at = f"{time.time_ns() // _MILLISECOND:012x}"
    text = raw.hex()
    variant = "89ab"[raw[0] & 3]
    return f"{at[:8]}-{at[8:]}-7{text[2:5]}-{variant}{text[5:8]}-{text[8:]}"
