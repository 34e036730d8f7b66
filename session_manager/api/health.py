"""Health: /livez looks at nothing, /readyz at what a request needs, /health tells a person."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from session_manager import __version__
from session_manager.api import answers
from session_manager.api.limits import CurrentActor, RouteLimits
from session_manager.domain.errors import Unavailable
from session_manager.domain.times import Micros, rfc3339
from session_manager.people.identity import ANONYMOUS, Actor
from session_manager.wiring.services import Services

PATIENCE = 2.0
Health = Literal["healthy", "unhealthy", "disabled"]
MachineState = Literal["starting", "waiting", "held", "lost", "let_go"]
WriterState = Literal["waiting", "opening", "writing", "lapsed", "lost", "released"]


class HealthAnswer(BaseModel):
    status: Health = Field(examples=["healthy"])
    redis: Health = Field(examples=["healthy"])
    database: Health = Field(examples=["healthy"])
    kubernetes: Health = Field(description="disabled where pods are processes.", examples=["disabled"])
    timestamp: str = Field(examples=["2026-01-31T12:00:00.250Z"])
    service: str = Field(examples=["session-manager"])
    version: str = Field(examples=[__version__])
    machine: MachineState | None = Field(
        description="Whether the pods of this machine count, where pods are processes.", examples=["held"]
    )
    session_storage_enabled: bool = Field(examples=[True])
    session_storage_uri: str | None = Field(description="To users its scheme only.", examples=["sqlite"])
    session_storage_bucket: str | None = Field(
        description="Where backups lie; not told to users.", examples=["gs://project-session-storage"]
    )
    session_storage_writer: WriterState | None = Field(
        description="Whether this instance may write, where only one does: SQLite with a bucket.", examples=["writing"]
    )
    session_storage_lag: float | None = Field(
        description="Seconds since all changes were in the bucket, where they are shipped.", examples=[1.5]
    )


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["operations"])
    looks = _Looks(services)

    @routes.get("/livez")
    async def alive() -> Response:
        """The process answers. Looks at nothing else."""
        return answers.json({"status": "alive"})

    @routes.get("/readyz", responses={503: {"description": "Not yet, or not any more; `detail` says why."}})
    async def ready() -> Response:
        """Requests can be served."""
        redis, database = await looks.next()
        lacks = _lacks(services, redis, database)
        if lacks is None:
            return answers.json({"status": "ready"})
        return answers.json({"status": "not ready", "detail": lacks}, 503)

    @routes.get(
        "/health",
        response_model=HealthAnswer,
        responses={503: {"model": HealthAnswer}},
        dependencies=[Depends(limits.read)],
    )
    async def health(actor: CurrentActor) -> Response:
        """What is well and what is not; 503 when something is not."""
        redis, database = await looks.next()
        fine = redis and database
        return answers.json(_describe(services, redis, database, whole=_may_see_all(actor)), 200 if fine else 503)

    return routes


class _Looks:
    """One look at a time, shared by all who ask meanwhile: asking needs no key, and must not take all connections."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._present: asyncio.Task[tuple[bool, bool]] | None = None

    async def next(self) -> tuple[bool, bool]:
        """Whether Redis and the database answer."""
        if self._present is None or self._present.done():
            self._present = asyncio.create_task(self._look(), name="health")
        return await asyncio.shield(self._present)

    async def _look(self) -> tuple[bool, bool]:
        return await asyncio.gather(_answers(self._services.activity.ping()), _answers(self._services.store.ping()))


def _may_see_all(actor: Actor) -> bool:
    """Who runs this, and no user of it."""
    return actor.caller != ANONYMOUS and actor.user is None


def _lacks(services: Services, redis: bool, database: bool) -> str | None:
    """Why requests are not served, in words."""
    if services.stopping:
        return "the server stops"
    if services.writer is not None and services.writer.leadership.lacks is not None:
        return services.writer.leadership.lacks
    if not redis:
        return "Redis is unavailable"
    if not database:
        return "the database is unavailable"
    return (services.machine.lacks if services.machine else None) or services.host.lacks


async def _answers(ping: Any) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            await ping
    except (Unavailable, TimeoutError):
        return False
    return True


def _describe(services: Services, redis: bool, database: bool, *, whole: bool) -> dict[str, Any]:
    words = {True: "healthy", False: "unhealthy"}
    uri = services.storage_uri
    return {
        "status": words[redis and database],
        "redis": words[redis],
        "database": words[database],
        "kubernetes": "disabled" if services.host.healthy is None else words[services.host.healthy],
        "timestamp": rfc3339(Micros(services.wall_clock())),
        "service": "session-manager",
        "version": __version__,
        "machine": services.machine.public.name if services.machine else None,
        "session_storage_enabled": True,
        "session_storage_uri": uri if whole else uri.partition("://")[0],
        "session_storage_bucket": services.backups.url if whole else None,
        "session_storage_writer": services.writer.leadership.public.name if services.writer else None,
        "session_storage_lag": services.writer.lag if services.writer else None,
    }
