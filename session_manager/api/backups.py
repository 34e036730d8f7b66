"""Backups for who runs this: list, make, look at, verify.

There is no route that restores: a restore takes the place of the database that this very process has open, so it is
done where the process is stopped, by the command line.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field

from session_manager.api import answers
from session_manager.api.limits import CurrentActor, RouteLimits
from session_manager.backup.manifest import NAME, Manifest
from session_manager.backup.service import Job
from session_manager.domain.errors import BackupDamaged, Forbidden
from session_manager.domain.times import Micros, rfc3339
from session_manager.wiring.services import Services

Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$", examples=["20260131T120000Z-4f2a9c01"])]


class BackupAnswer(BaseModel):
    name: str = Field(examples=["20260131T120000Z-4f2a9c01"])
    status: Literal["done", "running", "failed"] = Field(examples=["done"])
    taken_at: str | None = Field(description="The state that it holds.", examples=["2026-01-31T12:00:00.250Z"])
    engine: Literal["sqlite", "postgresql"] | None = Field(None, examples=["sqlite"])
    schema_version: int | None = Field(None, examples=[1])
    rows: dict[str, int] | None = Field(None, description="By table.", examples=[{"session": 12, "message": 340}])
    size: int | None = Field(None, description="Bytes of the database.", examples=[1_048_576])
    stored_size: int | None = Field(None, description="Bytes in the bucket.", examples=[131_072])
    sha256: str | None = Field(None, description="Of the database.", examples=["9f86d081…"])
    encrypted: bool | None = Field(None, examples=[False])
    duration: float | None = Field(None, description="Seconds.", examples=[1.5])
    program: str | None = Field(None, description="Version of what made it.", examples=["0.1.0"])
    phase: str | None = Field(None, description="Of one that runs: copy or upload.", examples=[None])
    done: int | None = Field(None, description="Bytes of the phase.", examples=[None])
    total: int | None = Field(None, description="Bytes of the phase; 0 where nobody knows.", examples=[None])
    error: str | None = Field(None, description="Of one that failed.", examples=[None])


class BackupList(BaseModel):
    backups: list[BackupAnswer]


class BackupVerdict(BaseModel):
    name: str = Field(examples=["20260131T120000Z-4f2a9c01"])
    good: bool = Field(examples=[True])
    error: str | None = Field(None, description="What is wrong with it.", examples=[None])


def admin_only(actor: CurrentActor) -> None:
    """A service that acts for nobody, or anybody on this machine where no key is configured."""
    if actor.user is not None:
        raise Forbidden("only a service's key that acts for no user may do this")


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(prefix="/admin/backups", tags=["operations"], dependencies=[Depends(admin_only)])
    read, change = [Depends(limits.read)], [Depends(limits.change)]
    backups = services.backups

    @routes.get("", response_model=BackupList, dependencies=read)
    async def list_backups() -> Response:
        """The backups in the bucket, newest first, and before them one that is being made."""
        found = [_told(manifest) for manifest in await backups.list()]
        return answers.json({"backups": ([_running(backups.job)] if backups.job else []) + found})

    @routes.post("", response_model=BackupAnswer, status_code=202, dependencies=change)
    async def create_backup() -> Response:
        """Begin one; `Location` tells how far it is. 409 while another one runs."""
        job = backups.create()
        return answers.json(_running(job), 202, {"Location": f"/admin/backups/{job.name}"})

    @routes.get("/{name}", response_model=BackupAnswer, dependencies=read)
    async def get_backup(name: Name) -> Response:
        """One backup, or how far it is, or why it failed."""
        found = await backups.get(name)
        return answers.json(_running(found) if isinstance(found, Job) else _told(found))

    @routes.post("/{name}/verify", response_model=BackupVerdict, dependencies=change)
    async def verify_backup(name: Name) -> Response:
        """Fetch it and check all of it, as a restore would. 409 while a backup is made."""
        try:
            await backups.verify(name)
        except BackupDamaged as error:
            return answers.json({"name": name, "good": False, "error": error.detail})
        return answers.json({"name": name, "good": True, "error": None})

    return routes


def _told(manifest: Manifest) -> dict[str, Any]:
    facts = manifest.model_dump(include=set(BackupAnswer.model_fields))
    taken_at = rfc3339(Micros(int(manifest.taken_at.timestamp() * 1_000_000)))
    return {**facts, "status": "done", "taken_at": taken_at, "encrypted": manifest.encryption is not None}


def _running(job: Job) -> dict[str, Any]:
    facts = {"name": job.name, "status": "failed" if job.error else "running", "taken_at": None}
    return {**facts, "phase": job.phase, "done": job.done, "total": job.total, "error": job.error}
