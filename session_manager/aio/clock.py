"""The clock of leases."""

from __future__ import annotations

import time


def monotonic() -> float:
    """Return seconds on a clock that also runs while the machine is suspended, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
