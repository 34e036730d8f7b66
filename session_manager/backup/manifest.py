"""The manifest, which describes a backup. It is uploaded last: without a manifest there is no backup."""

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
    """The description of one backup. Sizes in bytes, durations in seconds; it holds the state at ``taken_at``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = FORMAT
    name: str = Field(pattern=f"^{NAME.pattern}$")
    taken_at: AwareDatetime
    engine: Engine
    schema_version: int = Field(ge=0, description="Version of our tables; 0 if there are none.")
    rows: dict[str, int] = Field(description="Number of rows by table.")
    size: int = Field(ge=0, description="Size of the unpacked database.")
    sha256: str = Field(pattern=_HASH)
    stored_size: int = Field(ge=0)
    stored_sha256: str = Field(pattern=_HASH)
    compression: Literal["zstd"] = "zstd"
    encryption: Literal["AES-256-GCM"] | None = None
    key: str | None = Field(None, description="Id of the key, if it is encrypted.")
    term: int = Field(0, ge=0, description="Term of the one writer; 0 without a lease.")
    program: str = Field(description="Version of the program that made the backup.")
    duration: float = Field(ge=0, description="Seconds until the manifest was written.")

    @property
    def object(self) -> str:
        """The name of the data object, relative to the place."""
        return data_of(self.name)

    def left(self, interval: float, now: datetime) -> float:
        """Return the seconds until the next backup is due, ``interval`` seconds after this one; 0 if it is due now.

        A backup from further in the future than ``interval`` was made by a wrong clock, so the next one is due.
        """
        age = (now - self.taken_at).total_seconds()
        return max(0.0, interval - age) if age > -interval else 0.0

    @classmethod
    def read(cls, data: bytes, name: str) -> Manifest:
        """Parse the manifest of the backup ``name``. Raises BackupDamaged if it is not one."""
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError:
            raise BackupDamaged(f"The manifest of {name} could not be read") from None
        if manifest.name != name:
            raise BackupDamaged(f"The manifest of {name} belongs to another backup")
        return manifest

    def write(self) -> bytes:
        return self.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def new_name(now: datetime) -> str:
    """Return a unique name that sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def data_of(name: str) -> str:
    return f"{FOLDER}/{name}.zst"


def manifest_of(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def name_of(entry: str) -> str | None:
    """Return the name of the backup that an object belongs to, or None if it belongs to none."""
    name, _, ending = entry.rpartition("/")[2].partition(".")
    return name if ending in ("zst", "json") and NAME.fullmatch(name) else None
