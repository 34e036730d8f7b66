"""A pace for work that others cause: so much at once, and so much a second from then on."""

from __future__ import annotations


class Pace:
    """``rate``: units a second. ``burst``: units that cost no pause, after a rest."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._ahead = burst / rate
        self._paid_until = float("-inf")

    def spend(self, units: float, now: float) -> float:
        """Return the seconds to pause after so much work. ``now`` is the time of any clock that never goes back."""
        self._paid_until = max(self._paid_until, now - self._ahead) + units / self._rate
        return max(0.0, self._paid_until - now)
