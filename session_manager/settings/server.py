"""Where the server listens, who may call it, and how long it waits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from session_manager.settings.declared import setting
from session_manager.settings.kinds import ANY_PORT, DAY, HOST, NETWORKS, PATH, Kind, Network, seconds, whole_number

RESERVED_NAMES = frozenset({"local", "anonymous", "pod"})  # callers without a key
SHORTEST_KEY = 16
LONGEST_USER = 128


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``caller`` names the key in limits and logs. It acts for ``user`` only; None: for any user."""

    caller: str
    user: str | None
    secret: SecretStr


def _api_keys(text: str) -> tuple[ApiKey, ...]:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    keys = tuple(_api_key(entry) for entry in entries)
    if len({(key.caller, key.user) for key in keys}) < len(keys):
        raise ValueError
    return keys


def _api_key(entry: str) -> ApiKey:
    name, _, key = entry.partition(":")
    caller, at, user = name.partition("@")
    user = user.strip()
    if caller in RESERVED_NAMES or not re.fullmatch(r"[\w.-]+", caller) or len(key) < SHORTEST_KEY:
        raise ValueError
    if at and not (1 <= len(user) <= LONGEST_USER and user.isprintable()):
        raise ValueError
    return ApiKey(caller, user if at else None, SecretStr(key))


API_KEYS = Kind(
    "list of keys",
    "name:key or name@user:key entries, each name once and not local, anonymous or pod, "
    f"each key of {SHORTEST_KEY} characters or more",
    _api_keys,
    secret=True,
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    host: str = setting(
        "HOST", HOST, "127.0.0.1", "Address to listen on. Anything but loopback needs SESSION_API_KEYS."
    )
    port: int | None = setting(
        "PORT", ANY_PORT, None, "Port to listen on. Wins over CONTAINER_PORT, as platforms like Cloud Run set it."
    )
    container_port: int = setting("CONTAINER_PORT", ANY_PORT, 8080, "Port to listen on when PORT is not set.")
    api_keys: tuple[ApiKey, ...] = setting(
        "SESSION_API_KEYS", API_KEYS, (), "Comma-separated name:key, or name@user:key to act for that user only."
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "TRUSTED_PROXIES", NETWORKS, (), "Networks whose X-Forwarded-For is trusted. None, as callers can forge it."
    )
    data_dir: Path = setting(
        "DATA_DIR", PATH, Path("data"), "Folder for sessions' homes, logs, and the data of SQLite and Redis."
    )
    request_timeout: float = setting(
        "REQUEST_TIMEOUT", seconds(), 60.0, "Seconds for a request to arrive in full, or 408. Fits slow lines."
    )
    keep_alive_timeout: int = setting(
        "KEEP_ALIVE_TIMEOUT",
        whole_number(int(DAY), noun="number of seconds"),
        75,
        "Seconds until an idle connection is closed. Longer than a proxy keeps it (nginx: 60).",
    )
    shutdown_delay: float = setting(
        "SHUTDOWN_DELAY", seconds(least=0.0), 0.0, "Seconds of service after SIGTERM. Use 5 or more behind a proxy."
    )
    shutdown_timeout: float = setting(
        "SHUTDOWN_TIMEOUT", seconds(), 30.0, "Seconds for running turns to finish, as Kubernetes waits; 3 under `dev`."
    )

    @property
    def listen_port(self) -> int:
        return self.container_port if self.port is None else self.port
