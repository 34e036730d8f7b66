"""The SQL database, and Redis."""

from __future__ import annotations

from pydantic import Field

from session_manager.settings.kinds import FilePath, Group, Host, Password, Port, Seconds, Secret, Text, UpTo1000


class DatabaseSettings(Group):
    uri: Secret | None = Field(None, alias="SESSION_DB_URI")
    """postgresql://… or sqlite:///…; wins over CLOUD_RUN_SESSION_DB_PATH."""
    password: Password | None = Field(None, alias="SESSION_DB_PASSWORD")
    """Password of PostgreSQL, for a SESSION_DB_URI without one. Needs no escaping."""
    path: FilePath | None = Field(None, alias="CLOUD_RUN_SESSION_DB_PATH")
    """Path of a SQLite file; by default sessions/sessions.db in DATA_DIR."""
    plain_hosts: Text = Field("", alias="SESSION_DB_PLAIN_HOSTS")
    """PostgreSQL hosts that need no TLS, comma-separated; * for all."""
    pool: UpTo1000 = Field(10, alias="DATABASE_POOL")
    """PostgreSQL connections. Ten saturate two cores."""
    patience: Seconds = Field(5.0, alias="DATABASE_PATIENCE")
    """Seconds to wait for a connection or a lock before 503. Callers can retry."""


class RedisSettings(Group):
    url: Secret | None = Field(None, alias="REDIS_URL")
    """redis://… or rediss://…; wins over host and port, and over the password if it has one."""
    host: Host = Field("127.0.0.1", alias="REDIS_HOST")
    """Host of Redis."""
    port: Port = Field(6379, alias="REDIS_PORT")
    """Port of Redis."""
    password: Password | None = Field(None, alias="REDIS_PASSWORD")
    """Password of Redis. Needs no escaping."""
    timeout: Seconds = Field(2.0, alias="REDIS_TIMEOUT")
    """Seconds until a silent Redis is treated as unavailable. Well below LEASE."""
