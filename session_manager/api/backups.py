"""Routes of backups for operators: list, make, look at, verify.

No route restores: a restore replaces the database that this very process has open, so the command line does it while
the process is stopped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Response
from pydantic import BaseModel, Field

from session_manager.api import answers
from session_manager.api.call import CurrentCall
from session_manager.backup.catalog import NAME, Manifest
from session_manager.backup.service import Job
from session_manager.domain.errors import BackupDamaged
from session_manager.domain.times import Micros, rfc3339
from session_manager.domain.values import Json

Name = Annotated[str, Path(pattern=f"^{NAME.pattern}$", examples=["20260131T120000Z-4f2a9c01"])]


class BackupAnswer(BaseModel):
    name: str = Field(examples=["20260131T120000Z-4f2a9c01"])
    status: Literal["done", "running", "failed"] = Field(examples=["done"])
    taken_at: str | None = Field(description="The time of its data.", examples=["2026-01-31T12:00:00.250Z"])
    engine: Literal["sqlite", "postgresql"] | None = Field(None, examples=["sqlite"])
    schema_version: int | None = Field(None, examples=[1])
    rows: dict[str, int] | None = Field(None, description="By table.", examples=[{"session": 12, "message": 340}])
    size: int | None = Field(None, description="Bytes of the database.", examples=[1_048_576])
    stored_size: int | None = Field(None, description="Bytes in the bucket.", examples=[131_072])
    sha256: str | None = Field(None, description="Of the database.", examples=["9f86d081…"])
    encrypted: bool | None = Field(None, examples=[False])
    authenticated: bool | None = Field(None, description="A configured key proves that it is ours.", examples=[False])
    duration: float | None = Field(None, description="Seconds.", examples=[1.5])
    program: str | None = Field(None, description="Version of the program that made it.", examples=["0.1.0"])
    phase: str | None = Field(None, description="While it runs: copy or upload.", examples=[None])
    done: int | None = Field(None, description="Bytes of the phase.", examples=[None])
    total: int | None = Field(None, description="Bytes of the phase; 0 if unknown.", examples=[None])
    error: str | None = Field(None, description="Why it failed.", examples=[None])


class BackupList(BaseModel):
    backups: list[BackupAnswer]


class BackupVerdict(BaseModel):
    name: str = Field(examples=["20260131T120000Z-4f2a9c01"])
    good: bool = Field(examples=[True])
    error: str | None = Field(None, description="What is wrong with it.", examples=[None])


async def list_backups(call: CurrentCall) -> Response:
    """The backups in the bucket, newest first, and before them one that is being made."""
    backups = call.services.backups
    found = [_done(manifest) for manifest in await backups.list()]
    return answers.json({"backups": ([_running(backups.job)] if backups.job else []) + found})


async def create_backup(call: CurrentCall) -> Response:
    """Begin a backup; `Location` shows its progress. 409 while another one runs."""
    job = call.services.backups.create()
    return answers.json(_running(job), 202, {"Location": f"/admin/backups/{job.name}"})


async def get_backup(call: CurrentCall, name: Name) -> Response:
    """One backup, with its progress or the reason why it failed."""
    found = await call.services.backups.get(name)
    return answers.json(_running(found) if isinstance(found, Job) else _done(found))


async def verify_backup(call: CurrentCall, name: Name) -> Response:
    """Fetch it and check all of it, as a restore would. 409 while a backup is made."""
    try:
        await call.services.backups.verify(name)
    except BackupDamaged as error:
        return answers.json({"name": name, "good": False, "error": error.detail})
    return answers.json({"name": name, "good": True, "error": None})


def _done(manifest: Manifest) -> Json:
    facts = manifest.model_dump(include=set(BackupAnswer.model_fields))
    taken_at = rfc3339(Micros(int(manifest.taken_at.timestamp() * 1_000_000)))
    marks = {"encrypted": manifest.encryption is not None, "authenticated": manifest.authenticated}
    return {**facts, "status": "done", "taken_at": taken_at, **marks}


def _running(job: Job) -> Json:
    facts = {"name": job.name, "status": "failed" if job.error else "running", "taken_at": None}
    return {**facts, "phase": job.phase, "done": job.done, "total": job.total, "error": job.error}
