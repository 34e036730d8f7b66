"""Wrong keys, counted by the address from which they come.

A valid key is never counted and never refused: many people may share an address, and one of them must not lock out the
others. So the limit does not slow a guess that is right. What makes guessing hopeless is the length of the keys; the
limit, the log and the metric make it cheap and visible.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from limits import RateLimitItem
from prometheus_client import Counter as Metric

from session_manager.activity.link import Link
from session_manager.api.limits import count_call
from session_manager.domain.errors import ActivityUnavailable, RateLimited

log = logging.getLogger(__name__)

PERIOD = 60  # seconds between log lines about an address, if there is no limit
MOST_ADDRESSES = 10_000  # counted apart in a window
MOST_LINES = 20  # of a window in the log
ELSEWHERE = "other addresses"


class FailedKeys:
    """``rate``: wrong keys from one address, over all front doors; without Redis, here. None: no limit."""

    def __init__(self, rate: RateLimitItem | None, link: Link, metric: Metric) -> None:
        self._rate = rate
        self._link = link
        self._metric = metric
        self._period = PERIOD if rate is None else rate.get_expiry()
        self._counts: Counter[str] = Counter()  # of this window
        self._ends = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def count(self, address: str, *, refuse: bool) -> None:
        """Count a wrong key. ``refuse``: raise RateLimited if there were too many."""
        self._metric.inc()
        here = self._count_here(address)
        if self._rate is None or not refuse:
            return
        # An address over the limit here is over it everywhere, so Redis is not asked again.
        if here > self._rate.amount:
            raise _too_many(self._ends - asyncio.get_running_loop().time())
        try:
            count, rest = await count_call(self._link, self._rate, address, "failed_keys")
        except ActivityUnavailable:
            return
        if count > self._rate.amount:
            raise _too_many(rest)

    def _count_here(self, address: str) -> int:
        if not self._counts:
            loop = asyncio.get_running_loop()
            self._ends = loop.time() + self._period
            self._timer = loop.call_at(self._ends, self.report)
        if address not in self._counts and len(self._counts) >= MOST_ADDRESSES:
            address = ELSEWHERE
        self._counts[address] += 1
        return self._counts[address]

    def report(self) -> None:
        """End the window and log it: a line for each of the worst addresses, and one for all others."""
        if self._timer is not None:
            self._timer.cancel()
        counts, self._counts = self._counts, Counter()
        lines = counts.most_common(MOST_LINES)
        rest = counts.total() - sum(count for _, count in lines)
        for address, count in [*lines, (ELSEWHERE, rest)] if rest else lines:
            extra = {"event": "keys.failed", "address": address, "count": count}
            log.warning("refused %d wrong keys from %s in %d s", count, address, self._period, extra=extra)


def _too_many(seconds: float) -> RateLimited:
    return RateLimited("too many wrong keys from this address", retry_after=max(1, round(seconds)))
