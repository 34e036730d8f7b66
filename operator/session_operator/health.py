"""Serves /livez and /healthz for the kubelet and /metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.queued = self._gauge("queue_length", "Sessions and classes that wait to be reconciled.")
        self.retrying = self._gauge("retrying", "Sessions and classes whose last reconciliation failed.")
        self.pods = self._gauge("answering_pods", "Pods that answer.")
        self.sessions = self._gauge("sessions", "Session resources.")
        self.refused = self._gauge("refused_classes", "SessionClasses of which the API server accepts no pod.")
        self.starts = self._counter("pod_starts", "Pod starts by result.", "result")
        self.seconds = self._histogram("pod_start_seconds", "From the wake until the pod answered, seconds.")
        self.reconciles = self._counter("reconciles", "Reconciliations by queue and result.", "queue", "result")
        self.reconcile_seconds = self._histogram("reconcile_seconds", "Length of a reconciliation, seconds.", "queue")
        self.events = self._counter("events", "Events written, by reason.", "reason")
        self.dropped = self._counter("events_dropped", "Events dropped: too many, or the API server failed.")

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"session_operator_{name}", words, registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"session_operator_{name}", words, labels, registry=self.registry)

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(f"session_operator_{name}", words, labels, buckets=BUCKETS, registry=self.registry)

    def started(self, result: str, seconds: float) -> None:
        self.starts.labels(result).inc()
        if result == "answered":
            self.seconds.observe(seconds)

    def reconciled(self, queue: str) -> Callable[[str, float], None]:
        """Return the observer of a queue."""

        def observe(result: str, seconds: float) -> None:
            self.reconciles.labels(queue, result).inc()
            self.reconcile_seconds.labels(queue).observe(seconds)

        return observe

    def event(self, reason: str) -> None:
        """Count an Event by its reason; "" is one that was dropped."""
        if reason:
            self.events.labels(reason).inc()
        else:
            self.dropped.inc()


@dataclass(slots=True, eq=False)
class HealthServer:
    """``lacks`` returns why the operator cannot work, or None."""

    metrics: Metrics
    lacks: Callable[[], str | None]
    runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port."""
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._show)
        self.runner = web.AppRunner(app, access_log=None)
        await self.runner.setup()
        site = web.TCPSite(self.runner, host, port)
        await site.start()
        found: int = self.runner.addresses[0][1]
        return found

    async def close(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        """Answer 200 as long as the process runs: a restart would not bring back an API that is away."""
        return web.json_response({"status": "alive"})

    async def _health(self, _: web.Request) -> web.Response:
        lacks = self.lacks()
        if lacks is not None:
            return web.json_response({"status": "unhealthy", "reason": lacks}, status=503)
        return web.json_response({"status": "healthy"})

    async def _show(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.metrics.registry), content_type="text/plain")
