"""Routes for operators and their tools: /livez checks nothing, /readyz what a request needs, /health is for people."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field

from session_manager import __version__
from session_manager.api import answers
from session_manager.api.call import CurrentCall
from session_manager.domain.errors import ActivityUnavailable
from session_manager.domain.session import Status
from session_manager.domain.times import Micros, rfc3339, seconds
from session_manager.domain.values import Json
from session_manager.wiring.health import Reasons
from session_manager.wiring.services import Services

Health = Literal["healthy", "unhealthy", "disabled"]
MachineState = Literal["starting", "waiting", "held", "lost", "let_go"]
WriterState = Literal["waiting", "opening", "writing", "lapsed", "lost", "released"]


class HealthAnswer(BaseModel):
    status: Health = Field(examples=["healthy"])
    redis: Health = Field(examples=["healthy"])
    database: Health = Field(examples=["healthy"])
    data_dir: Health = Field(description="disabled where pods are not processes.", examples=["healthy"])
    detail: str | None = Field(description="What does not work and why; null if all works.", examples=[None])
    kubernetes: Health = Field(description="disabled where pods are processes.", examples=["disabled"])
    timestamp: str = Field(examples=["2026-01-31T12:00:00.250Z"])
    service: str = Field(examples=["session-manager"])
    version: str = Field(examples=[__version__])
    machine: MachineState | None = Field(
        description="held if this machine runs the pods, where pods are processes.", examples=["held"]
    )
    session_storage_enabled: bool = Field(examples=[True])
    session_storage_uri: str | None = Field(description="For users only its scheme.", examples=["sqlite"])
    session_storage_bucket: str | None = Field(
        description="Where the backups are; null for users.", examples=["gs://project-session-storage"]
    )
    session_storage_writer: WriterState | None = Field(
        description="writing if this instance may write, where only one does: SQLite with a bucket.",
        examples=["writing"],
    )
    session_storage_lag: float | None = Field(
        description="Seconds since all changes were in the bucket, where they are shipped.", examples=[1.5]
    )


async def alive() -> Response:
    """The process answers. Checks nothing else."""
    return answers.json({"status": "alive"})


async def ready(call: CurrentCall) -> Response:
    """Requests can be served."""
    lacks = _lacks(call.services, await call.services.health.check())
    if lacks is None:
        return answers.json({"status": "ready"})
    return answers.json({"status": "not ready", "detail": lacks}, 503)


async def health(call: CurrentCall) -> Response:
    """The state of each dependency; 503 if one does not work."""
    services, whole = call.services, call.caller.admin
    reasons = await services.health.check()
    broken = [reason for reason in reasons.values() if reason is not None]
    words = {True: "healthy", False: "unhealthy", None: "disabled"}
    uri = services.store.uri
    described = {
        "status": words[not broken],
        "redis": words[reasons.get("redis", "") is None],
        "database": words[reasons.get("database", "") is None],
        "data_dir": words[reasons["data_dir"] is None if "data_dir" in reasons else None],
        "detail": "; ".join(broken) or None,
        "kubernetes": words[services.host.healthy],
        "timestamp": rfc3339(Micros(time.time_ns() // 1000)),
        "service": "session-manager",
        "version": __version__,
        "machine": services.machine.public.name if services.machine else None,
        "session_storage_enabled": True,
        "session_storage_uri": uri if whole else uri.partition("://")[0],
        "session_storage_bucket": services.backups.url if whole else None,
        "session_storage_writer": services.writer.leadership.public.name if services.writer else None,
        "session_storage_lag": services.writer.lag if services.writer else None,
    }
    return answers.json(described, 503 if broken else 200)


def _lacks(services: Services, reasons: Reasons) -> str | None:
    """Return why requests cannot be served, or None."""
    if services.stopping:
        return "the server stops"
    if services.writer is not None and services.writer.leadership.lacks is not None:
        return services.writer.leadership.lacks
    broken = next((reason for reason in reasons.values() if reason is not None), None)
    return broken or (services.machine.lacks if services.machine else None) or services.host.lacks


async def openapi(call: CurrentCall) -> Response:
    return answers.json(call.parts.documents.ours)


async def openapi_of_adk(call: CurrentCall) -> Response:
    return answers.json(call.parts.documents.adk)


async def show(call: CurrentCall) -> Response:
    """JSON; Prometheus text when the Accept header asks for text/plain or OpenMetrics."""
    services, metrics = call.services, call.parts.metrics
    counts = await _count(services)
    accept = call.headers.get(b"accept", b"").decode("latin-1")
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


async def _count(services: Services) -> dict[Status, int]:
    """Return the sessions by status: SQL counts all as asleep, Redis says which of them are not."""
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


async def _summary(services: Services, counts: dict[Status, int]) -> Json:
    active = counts[Status.WAKING] + counts[Status.AWAKE]
    total = sum(counts.values())
    return {
        "total_sessions": total,
        "active_sessions": active,
        "sleeping_sessions": total - active,
        "timestamp": rfc3339(await services.store.now()),
    }
