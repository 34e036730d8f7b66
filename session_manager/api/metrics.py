"""The metrics of a front door. ``docs/metrics.md`` lists every one; a test compares it with this file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from session_manager.backup.service import Stats, WriterStats
from session_manager.domain.histogram import Histogram
from session_manager.turns.kit import TurnTimes

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True, eq=False)
class Durations(Collector):
    """Histograms that others fill, as one family, by the value of ``label``. An only histogram has the empty label."""

    name: str
    help: str
    label: str
    histograms: Mapping[str, Histogram]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.help, labels=[self.label] if self.label else [])
        for value, histogram in self.histograms.items():
            family.add_metric([value] if self.label else [], histogram.cumulative(), histogram.sum)
        yield family


@dataclass(slots=True, eq=False)
class BackupFigures(Collector):
    """Figures of the newest known backup, whichever front door made it. Without one there are only the failures."""

    stats: Stats

    def collect(self) -> Iterator[Metric]:
        gauge, newest = GaugeMetricFamily, self.stats.newest
        yield CounterMetricFamily(
            "session_manager_backup_failures", "Backups that could not be made.", self.stats.failures
        )
        if newest is not None:
            yield gauge("session_manager_backup_age_seconds", "Age of the newest backup.", self.stats.age)
            yield gauge("session_manager_backup_size_bytes", "Stored size of the newest backup.", newest.stored_size)
            yield gauge("session_manager_backup_duration_seconds", "Time it took to make it.", newest.duration)


@dataclass(slots=True, eq=False)
class WriterFigures(Collector):
    """Figures of the one front door that may write: if this one may, and how far the bucket is behind."""

    writer: WriterStats

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("session_manager_writer", "1 while this front door may write.", self.writer.writes)
        if self.writer.lag is not None:
            words = "Seconds since all changes were in the bucket."
            yield GaugeMetricFamily("session_manager_shipping_lag_seconds", words, self.writer.lag)


@dataclass(slots=True, eq=False)
class HealthFigures(Collector):
    """If each part worked when it was last checked."""

    reasons: Mapping[str, str | None]

    def collect(self) -> Iterator[Metric]:
        words = "1 while a part works, 0 while it is away or cannot write to its disk."
        family = GaugeMetricFamily("session_manager_healthy", words, labels=["part"])
        for part, reason in self.reasons.items():
            family.add_metric([part], reason is None)
        yield family


class Metrics:
    """The registry of a front door. ``wakes`` is None where another process starts the pods."""

    def __init__(
        self,
        times: TurnTimes,
        wakes: Histogram | None,
        backups: Stats | None = None,
        writer: WriterStats | None = None,
        health: Mapping[str, str | None] | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        if backups is not None:
            self.registry.register(BackupFigures(backups))
        if writer is not None:
            self.registry.register(WriterFigures(writer))
        if health is not None:
            self.registry.register(HealthFigures(health))
        self._requests = Counter(
            "session_manager_requests",
            "HTTP requests by method and status.",
            ["method", "status"],
            registry=self.registry,
        )
        self.failed_keys = Counter("session_manager_failed_keys", "Wrong keys that were sent.", registry=self.registry)
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
        self.sessions = self._gauge("sessions", "Sessions by status, deleted ones left out.", "status")
        self.queued = self._gauge("unfinished_messages", "Accepted messages without a result.")
        self.oldest = self._gauge("oldest_unfinished_seconds", "Age of the oldest message without a result, or 0.")
        self.exceeded = Counter(
            "session_manager_quota_exceeded",
            "Requests rejected because a user would have more than their quota, by its name.",
            ["quota"],
            registry=self.registry,
        )
        self._children: dict[tuple[str, int], Counter] = {}

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        return Gauge(f"session_manager_{name}", help_, labels, registry=self.registry)

    def _add(self, name: str, help_: str, histogram: Histogram) -> Histogram:
        self.registry.register(Durations(f"session_manager_{name}", help_, "", {"": histogram}))
        return histogram

    def request(self, method: str, status: int, duration: float) -> None:
        child = self._children.get((method, status))
        if child is None:
            child = self._requests.labels(method if method in KNOWN_METHODS else "other", str(status))
            if method in KNOWN_METHODS:
                self._children[method, status] = child
        child.inc()
        self._seconds.observe(duration)
