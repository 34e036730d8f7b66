"""Durations by how long they were.

Plain integers instead of prometheus_client's: one event loop needs no locks, and a turn is observed four times.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Histogram:
    """Seconds. ``sum`` of all that were observed."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """How many took no longer than each bound, which is in words as Prometheus has them; the last is all."""
        names = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))
