"""Ids of messages. Random bytes are read in batches: a system call for each id would also yield to another thread."""

from __future__ import annotations

import os
import time

from session_manager.domain.ids import uuid7

_SIZE = 10
_AT_ONCE = 256
_MILLISECOND = 1_000_000  # nanoseconds
_random: list[bytes] = []
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """Return a new UUID of version 7."""
    try:
        raw = _random.pop()
    except IndexError:
        data = os.urandom(_SIZE * _AT_ONCE)
        _random.extend(data[at : at + _SIZE] for at in range(_SIZE, len(data), _SIZE))
        raw = data[:_SIZE]
    return uuid7(time.time_ns() // _MILLISECOND, raw)
