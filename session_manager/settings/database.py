"""The SQL database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from session_manager.settings.declared import setting
from session_manager.settings.kinds import PATH, SECRET, TEXT, seconds, whole_number


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    uri: SecretStr | None = setting(
        "SESSION_DB_URI", SECRET, None, "postgresql://… or sqlite:///…; wins over CLOUD_RUN_SESSION_DB_PATH."
    )
    path: Path | None = setting(
        "CLOUD_RUN_SESSION_DB_PATH", PATH, None, "Path of a SQLite file; by default sessions/sessions.db in DATA_DIR."
    )
    plain_hosts: str = setting(
        "SESSION_DB_PLAIN_HOSTS", TEXT, "", "PostgreSQL hosts that need no TLS, comma-separated; * for all."
    )
    pool: int = setting("DATABASE_POOL", whole_number(1000), 10, "PostgreSQL connections. Ten saturate two cores.")
    patience: float = setting(
        "DATABASE_PATIENCE", seconds(), 5.0, "Seconds to wait for a connection or a lock before 503. Callers can retry."
    )
