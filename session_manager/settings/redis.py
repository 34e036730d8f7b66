"""Redis."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from session_manager.settings.declared import setting
from session_manager.settings.kinds import HOST, PORT, SECRET, seconds


@dataclass(frozen=True, slots=True)
class RedisSettings:
    url: SecretStr | None = setting(
        "REDIS_URL", SECRET, None, "redis://… or rediss://…; wins over host, port and password."
    )
    host: str = setting("REDIS_HOST", HOST, "127.0.0.1", "Host of Redis.")
    port: int = setting("REDIS_PORT", PORT, 6379, "Port of Redis.")
    password: SecretStr | None = setting("REDIS_PASSWORD", SECRET, None, "Password of Redis.")
    timeout: float = setting(
        "REDIS_TIMEOUT", seconds(), 2.0, "Seconds until a silent Redis is treated as unavailable. Well below LEASE."
    )
