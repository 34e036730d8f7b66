"""Backups of the database, and the lease of its one writer."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from session_manager.settings.declared import setting
from session_manager.settings.kinds import (
    DAY,
    FLAG,
    SECRET,
    TEN_YEARS,
    TEXT,
    Kind,
    choice,
    number,
    seconds,
    whole_number,
)


def _writer_lease(text: str) -> float:
    value = seconds(least=0.0).parse(text)
    if 0 < value < 1:  # an object in a bucket may be written once a second
        raise ValueError
    return value


WRITER_LEASE = Kind("number of seconds", "1 to 86400, or 0 for no lease", _writer_lease)


@dataclass(frozen=True, slots=True)
class BackupSettings:
    bucket: str | None = setting(
        "STORAGE_BUCKET",
        TEXT,
        None,
        "Where backups go: a bucket's name, gs://…, s3://… or file:///…; `off` for no backups. By default "
        "`<project>-session-storage`, where GOOGLE_CLOUD_PROJECT is set.",
    )
    project: str | None = setting(
        "GOOGLE_CLOUD_PROJECT", TEXT, None, "Google Cloud project in which a missing bucket is created."
    )
    emulator_host: str | None = setting(
        "STORAGE_EMULATOR_HOST", TEXT, None, "Address of an emulator of Google Cloud Storage."
    )
    interval: float = setting(
        "BACKUP_INTERVAL",
        seconds(TEN_YEARS),
        21_600.0,
        "Seconds between backups: what may be lost with a machine. Six hours.",
    )
    keep: int = setting(
        "BACKUP_KEEP", whole_number(1_000_000), 8, "How many of the newest backups are always kept: two days' worth."
    )
    keep_days: float = setting(
        "BACKUP_KEEP_DAYS", number("days", 36_500, 0), 14.0, "Days for which all other backups are kept."
    )
    timeout: float = setting(
        "BACKUP_TIMEOUT", seconds(), 30.0, "Seconds until a silent bucket is treated as unavailable."
    )
    shutdown_timeout: float = setting(
        "BACKUP_SHUTDOWN_TIMEOUT",
        seconds(least=0.0),
        60.0,
        "Seconds for the last backup at shutdown; 0 for none. SQLite only.",
    )
    encryption_keys: SecretStr | None = setting(
        "BACKUP_ENCRYPTION_KEYS", SECRET, None, "Comma-separated keys, 32 bytes in base64. The first encrypts."
    )
    mode: str = setting(
        "BACKUP_MODE",
        choice("mode", "interval", "continuous"),
        "interval",
        "`continuous` also ships changes of SQLite in seconds.",
    )
    ship_interval: float = setting(
        "BACKUP_SHIP_INTERVAL",
        seconds(DAY, least=0.1),
        3.0,
        "Seconds between shipments: what may be lost. Each is a request.",
    )
    litestream: str | None = setting(
        "LITESTREAM", TEXT, None, "Path of the litestream program; by default the one in PATH."
    )
    writer_lease: float = setting(
        "WRITER_LEASE",
        WRITER_LEASE,
        30.0,
        "Seconds after which a lost writer of SQLite with a bucket is replaced; 0: without a lease, and without "
        "protection against a second writer.",
    )
    writer_yields: bool = setting(
        "WRITER_YIELDS",
        FLAG,
        False,
        "true: the instance that writes, or runs the pods, leaves when a new one waits. For platforms that stop the "
        "old one late, like Cloud Run; not where an instance that ended is restarted.",
    )

    @property
    def place(self) -> str | None:
        """Return the name or URL of where backups go, or None if there are no backups."""
        if self.bucket is not None:
            return None if self.bucket.lower() == "off" else self.bucket
        return f"{self.project}-session-storage" if self.project else None
