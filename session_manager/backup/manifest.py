"""What a backup says of itself. It is uploaded last: without it there is no backup, whatever else lies there."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from session_manager.domain.errors import BackupDamaged

FOLDER = "session_backups"
FORMAT: Literal[1] = 1
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
Engine = Literal["sqlite", "postgresql"]
_HASH = r"^[0-9a-f]{64}$"


class Manifest(BaseModel):
    """One backup. Sizes in bytes, durations in seconds; ``taken_at`` is the instant whose state it holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = FORMAT
    name: str = Field(pattern=f"^{NAME.pattern}$")
    taken_at: AwareDatetime
    engine: Engine
    schema_version: int = Field(ge=0, description="Of our tables; 0 where there are none.")
    rows: dict[str, int] = Field(description="Rows of each table.")
    size: int = Field(ge=0, description="Of the database, unpacked.")
    sha256: str = Field(pattern=_HASH)
    stored_size: int = Field(ge=0)
    stored_sha256: str = Field(pattern=_HASH)
    compression: Literal["zstd"] = "zstd"
    encryption: Literal["AES-256-GCM"] | None = None
    key: str | None = Field(None, description="Which key, where it is encrypted.")
    term: int = Field(0, ge=0, description="Of the one writer; 0 where nobody made sure that there is one.")
    program: str = Field(description="Version of the program that made it.")
    duration: float = Field(ge=0, description="Of the whole backup until the manifest was written.")

    @property
    def object(self) -> str:
        """The data, below the place."""
        return data_of(self.name)

    def left(self, interval: float, now: datetime) -> float:
        """Seconds until there should be another one, ``interval`` seconds after this one; none are left where it is 0.

        One from further in the future was made by a clock that was wrong: it keeps nobody from making another.
        """
        age = (now - self.taken_at).total_seconds()
        return max(0.0, interval - age) if age > -interval else 0.0

    @classmethod
    def read(cls, data: bytes, name: str) -> Manifest:
        """BackupDamaged for what is no manifest of the backup ``name``."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError:
            raise BackupDamaged(f"The manifest of {name} cannot be read") from None
        if manifest.name != name:
            raise BackupDamaged(f"The manifest of {name} belongs to another backup")
        return manifest

    def write(self) -> bytes:
        return self.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def new_name(now: datetime) -> str:
    """Sorts by time, and is never taken twice."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def data_of(name: str) -> str:
    return f"{FOLDER}/{name}.zst"


def manifest_of(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def name_of(entry: str) -> str | None:
    """The backup that an object of ours belongs to."""
    name, _, ending = entry.rpartition("/")[2].partition(".")
    return name if ending in ("zst", "json") and NAME.fullmatch(name) else None
