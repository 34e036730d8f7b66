"""Backups of the database, and the lease of its one writer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from session_manager.settings.kinds import (
    DAY,
    Flag,
    Group,
    LongSeconds,
    Seconds,
    SecondsOrZero,
    Secret,
    Text,
    expects,
)


def _writer_lease(value: float) -> float:
    if 0 < value < 1:  # an object in a bucket may be written once a second
        raise ValueError
    return value


Kept = Annotated[int, Field(ge=1, le=1_000_000), expects("number", "a whole number from 1 to 1000000")]
Days = Annotated[float, Field(ge=0, le=36_500), expects("number of days", "0 to 36500")]
Mode = Annotated[
    Literal["interval", "continuous"], BeforeValidator(str.lower), expects("mode", "interval or continuous")
]
ShipInterval = Annotated[float, Field(ge=0.1, le=DAY), expects("number of seconds", "0.1 to 86400")]
WriterLease = Annotated[
    SecondsOrZero, AfterValidator(_writer_lease), expects("number of seconds", "1 to 86400, or 0 for no lease")
]


class BackupSettings(Group):
    bucket: Text | None = Field(None, alias="STORAGE_BUCKET")
    """The place for backups: a bucket's name, gs://…, s3://… or file:///…; `off` for no backups. By default
    `<project>-session-storage`, where GOOGLE_CLOUD_PROJECT is set."""
    project: Text | None = Field(None, alias="GOOGLE_CLOUD_PROJECT")
    """Google Cloud project in which a missing bucket is created."""
    emulator_host: Text | None = Field(None, alias="STORAGE_EMULATOR_HOST")
    """Address of an emulator of Google Cloud Storage."""
    interval: LongSeconds = Field(21_600.0, alias="BACKUP_INTERVAL")
    """Seconds between backups: what may be lost with a machine. Six hours."""
    keep: Kept = Field(8, alias="BACKUP_KEEP")
    """The number of newest backups that are always kept: two days' worth."""
    keep_days: Days = Field(14.0, alias="BACKUP_KEEP_DAYS")
    """Days for which all other backups are kept."""
    timeout: Seconds = Field(30.0, alias="BACKUP_TIMEOUT")
    """Seconds until a silent bucket is treated as unavailable."""
    shutdown_timeout: SecondsOrZero = Field(60.0, alias="BACKUP_SHUTDOWN_TIMEOUT")
    """Seconds for the last backup at shutdown; 0 for none. SQLite only."""
    encryption_keys: Secret | None = Field(None, alias="BACKUP_ENCRYPTION_KEYS")
    """Comma-separated keys, 32 bytes in base64. The first encrypts; each key decrypts the backups made with it."""
    mode: Mode = Field("interval", alias="BACKUP_MODE")
    """`continuous` also ships changes of SQLite in seconds."""
    ship_interval: ShipInterval = Field(3.0, alias="BACKUP_SHIP_INTERVAL")
    """Seconds between shipments: what may be lost. Each is a request."""
    litestream: Text | None = Field(None, alias="LITESTREAM")
    """Path of the litestream program; by default the one in PATH."""
    writer_lease: WriterLease = Field(30.0, alias="WRITER_LEASE")
    """Seconds after which a lost writer of SQLite with a bucket is replaced; 0: without a lease, and without
    protection against a second writer."""
    writer_yields: Flag = Field(False, alias="WRITER_YIELDS")
    """true: the instance that writes, or runs the pods, leaves when a new one waits. For platforms that stop the
    old one late, like Cloud Run; not where an instance that ended is restarted."""

    @property
    def place(self) -> str | None:
        """Return the name or URL of where backups go, or None if there are no backups."""
        if self.bucket is not None:
            return None if self.bucket.lower() == "off" else self.bucket
        return f"{self.project}-session-storage" if self.project else None
