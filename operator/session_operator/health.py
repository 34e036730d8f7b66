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
        self.queued = Gauge(
            "session_operator_queue_length", "Sessions and classes that wait to be reconciled.", registry=self.registry
        )
        self.pods = Gauge("session_operator_answering_pods", "Pods that answer.", registry=self.registry)
        self.sessions = Gauge("session_operator_sessions", "Session resources.", registry=self.registry)
        self.starts = Counter(
            "session_operator_pod_starts", "Pod starts by result.", ["result"], registry=self.registry
        )
        self.seconds = Histogram(
            "session_operator_pod_start_seconds",
            "From the wake until the pod answered, seconds.",
            buckets=BUCKETS,
            registry=self.registry,
        )

    def started(self, result: str, seconds: float) -> None:
        self.starts.labels(result).inc()
        if result == "answered":
            self.seconds.observe(seconds)


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
