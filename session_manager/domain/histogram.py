"""A histogram of durations.

It uses plain integers instead of prometheus_client: one event loop needs no locks, and a turn is observed four times.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Histogram:
    """Durations in seconds; ``sum`` is the sum of all of them."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the number of durations up to each bound, written as in Prometheus; the last bound is ``+Inf``."""
        names = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))
