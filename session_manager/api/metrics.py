"""What a scraper reads, and the small JSON that a person or a script reads at the same address.

``docs/metrics.md`` lists every metric; a test holds it against this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from session_manager.api import answers
from session_manager.api.limits import RouteLimits
from session_manager.backup.service import Stats, WriterStats
from session_manager.domain.errors import ActivityUnavailable
from session_manager.domain.histogram import Histogram
from session_manager.domain.status import Status
from session_manager.domain.times import rfc3339, seconds
from session_manager.turns.turn import TurnTimes
from session_manager.wiring.services import Services


class Durations(Collector):
    """Histograms that others fill, as one family: by the value of ``label``, which is empty where there is one only."""

    def __init__(self, name: str, help_: str, label: str, histograms: Mapping[str, Histogram]) -> None:
        self._name = name
        self._help = help_
        self._labels = [label] if label else []
        self._histograms = histograms

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for value, histogram in self._histograms.items():
            family.add_metric([value] if self._labels else [], histogram.cumulative(), histogram.sum)
        yield family


class BackupFigures(Collector):
    """Of the newest backup that is known, whoever made it. Without one there is nothing to tell but failures."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        gauge, newest = GaugeMetricFamily, self._stats.newest
        yield CounterMetricFamily(
            "session_manager_backup_failures", "Backups that could not be made.", self._stats.failures
        )
        if newest is not None:
            yield gauge("session_manager_backup_age_seconds", "Age of the newest backup.", self._stats.age)
            yield gauge("session_manager_backup_size_bytes", "Stored size of the newest backup.", newest.stored_size)
            yield gauge("session_manager_backup_duration_seconds", "Time it took to make it.", newest.duration)


class WriterFigures(Collector):
    """Where only one front door may write: whether this one may, and how far the bucket is behind."""

    def __init__(self, writer: WriterStats) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("session_manager_writer", "1 while this front door may write.", self._writer.writes)
        if self._writer.lag is not None:
            words = "Seconds since all changes were in the bucket."
            yield GaugeMetricFamily("session_manager_shipping_lag_seconds", words, self._writer.lag)


class Metrics:
    """One registry per front door. ``wakes``: None where pods are started elsewhere."""

    def __init__(
        self,
        times: TurnTimes,
        wakes: Histogram | None,
        backups: Stats | None = None,
        writer: WriterStats | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        if backups is not None:
            self.registry.register(BackupFigures(backups))
        if writer is not None:
            self.registry.register(WriterFigures(writer))
        self._requests = Counter(
            "session_manager_requests",
            "HTTP requests by method and status.",
            ["method", "status"],
            registry=self.registry,
        )
        self._seconds = self._add("request_seconds", "Time to answer, seconds.", Histogram())
        self._add("queue_wait_seconds", "From the accept until a pod is asked, seconds.", times.queue_wait)
        self._add("lease_wait_seconds", "Until Redis gave a session's turn, seconds.", times.lease_wait)
        self._add("lease_hold_seconds", "Until a session's turn was given back, seconds.", times.lease_hold)
        turns = Durations(
            "session_manager_turn_seconds", "Time that a pod took for a message, seconds.", "result", times.turn
        )
        self.registry.register(turns)
        if wakes is not None:
            self._add("wake_seconds", "From when a pod was wanted until it answered, seconds.", wakes)
        self.sessions = Gauge(
            "session_manager_sessions", "Sessions by status, deleted ones left out.", ["status"], registry=self.registry
        )
        self.queued = Gauge(
            "session_manager_unfinished_messages", "Accepted messages without a result.", registry=self.registry
        )
        self.oldest = Gauge(
            "session_manager_oldest_unfinished_seconds",
            "Age of the oldest message without a result, 0 when there is none.",
            registry=self.registry,
        )
        self._children: dict[tuple[str, int], Counter] = {}

    def _add(self, name: str, help_: str, histogram: Histogram) -> Histogram:
        self.registry.register(Durations(f"session_manager_{name}", help_, "", {"": histogram}))
        return histogram

    def request(self, method: str, status: int, duration: float) -> None:
        if method not in KNOWN_METHODS:
            method = "other"
        child = self._children.get((method, status))
        if child is None:
            child = self._children[method, status] = self._requests.labels(method, str(status))
        child.inc()
        self._seconds.observe(duration)


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def router(services: Services, limits: RouteLimits, metrics: Metrics) -> APIRouter:
    routes = APIRouter(tags=["operations"], dependencies=[Depends(limits.read)])

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def show(request: Request) -> Response:
        """JSON; Prometheus text when the Accept header asks for text/plain or OpenMetrics."""
        counts = await _count(services)
        accept = request.headers.get("accept", "")
        if "text/plain" not in accept and "openmetrics" not in accept:
            return answers.json(await _summary(services, counts))
        for status, number in counts.items():
            metrics.sessions.labels(status).set(number)
        waiting, oldest = await services.store.backlog()
        metrics.queued.set(waiting)
        now = await services.store.now()
        metrics.oldest.set(seconds(now - oldest) if oldest is not None else 0)
        encode, content_type = choose_encoder(accept)
        return Response(encode(metrics.registry), media_type=content_type)

    return routes


async def _count(services: Services) -> dict[Status, int]:
    """Sessions by status: SQL counts all as if asleep, Redis says which of them are not."""
    counts = dict.fromkeys(Status, 0) | await services.store.count_sessions()
    try:
        awake = await services.activity.awake()
    except ActivityUnavailable:
        return counts
    cold = await services.store.count_sessions(frozenset(awake))
    for status, number in cold.items():
        counts[status] -= number
    alive = sum(cold.values())
    ready = sum(state.address for state in awake.values())
    counts[Status.AWAKE] = min(ready, alive)
    counts[Status.WAKING] = alive - counts[Status.AWAKE]
    return counts


async def _summary(services: Services, counts: dict[Status, int]) -> dict[str, object]:
    active = counts[Status.WAKING] + counts[Status.AWAKE]
    total = sum(counts.values())
    return {
        "total_sessions": total,
        "active_sessions": active,
        "sleeping_sessions": total - active,
        "timestamp": rfc3339(await services.store.now()),
    }
