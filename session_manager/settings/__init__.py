"""All settings, typed, built once at start-up. Nothing else reads the environment.

Each field says its unit and why its default is what it is; the table in README.md is tested against this file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_DATABASE = "data/sessions/sessions.db"
RESERVED_NAMES = frozenset({"local", "anonymous"})  # who calls without a key


class Settings(BaseSettings):
    """Environment variables of the same name in capitals, or a ``.env`` file; the environment wins.

    One that is empty counts as not set.
    """

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Where it listens
    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs SESSION_API_KEYS.")
    port: int | None = Field(None, ge=0, le=65535, description="Port to listen on; wins over CONTAINER_PORT.")
    container_port: int = Field(8080, ge=0, le=65535, description="Port to listen on where PORT is not set.")
    trusted_proxies: str = Field("", description="Comma-separated networks whose X-Forwarded-For is believed.")
    shutdown_delay: float = Field(
        0.0, ge=0, description="Seconds on SIGTERM for which requests still come; 5 or more behind a proxy."
    )
    shutdown_timeout: float = Field(30.0, gt=0, description="Seconds that running turns get to finish after that.")
    keep_alive_timeout: int = Field(
        75, ge=1, description="Seconds until an idle connection is closed; longer than a proxy keeps it (nginx 60)."
    )
    request_timeout: float = Field(60.0, gt=0, description="Seconds in which a request has to come in whole, or 408.")
    instance: str = Field("", description="Name of this replica in logs; the host name by default.")
    environment: str = Field("development", description="Free text, passed on to agents.")

    # Who may call
    session_api_keys: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description="Comma-separated name:key, or name@user:key for a key that acts for that user only.",
    )

    # Facts
    session_db_uri: SecretStr | None = Field(None, description="postgresql://… or sqlite:///…; wins over the path.")
    cloud_run_session_db_path: Path | None = Field(
        None, description="Path of a SQLite file; sessions/sessions.db in DATA_DIR."
    )
    session_db_plain_hosts: str = Field(
        "",
        description="Comma-separated hosts of PostgreSQL that need no TLS, for the way there is private; * for all.",
    )
    data_dir: Path = Field(Path("data"), description="Folder of the process runtime: homes, logs, Redis data.")
    database_pool: int = Field(10, ge=1, description="PostgreSQL connections. Ten saturate two cores.")
    database_patience: float = Field(5.0, gt=0, description="Seconds to wait for a connection or a lock, then 503.")
    redis_host: str = Field("127.0.0.1", description="Redis address.")
    redis_port: int = Field(6379, ge=1, le=65535, description="Redis port.")
    redis_password: SecretStr | None = Field(None, description="Redis password.")
    redis_url: SecretStr | None = Field(None, description="redis://… or rediss://…; wins over host, port, password.")
    redis_timeout: float = Field(2.0, gt=0, description="Seconds until a silent Redis counts as away.")

    # Backups
    storage_bucket: str | None = Field(
        None,
        description="Where backups go: a bucket's name, gs://…, s3://… or file:///…; `off` for none. Without it "
        "`<project>-session-storage` where a project is known.",
    )
    google_cloud_project: str | None = Field(None, description="Project of Google's in which a missing bucket is made.")
    storage_emulator_host: str | None = Field(None, description="Address of an emulator of Google Cloud Storage.")
    backup_interval: float = Field(21_600, gt=0, description="Seconds between backups: what a lost machine may lose.")
    backup_keep: int = Field(8, ge=1, description="So many of the newest backups are kept, however old they are.")
    backup_keep_days: float = Field(14.0, ge=0, description="Days for which all the others are kept.")
    backup_timeout: float = Field(30.0, gt=0, description="Seconds until a silent bucket counts as away.")
    backup_shutdown_timeout: float = Field(
        60.0, ge=0, description="Seconds that the last backup gets when the server stops; 0 for none. SQLite only."
    )
    backup_encryption_keys: SecretStr | None = Field(
        None,
        description="Comma-separated keys, each 32 bytes in base64: the first encrypts backups, each decrypts its own.",
    )

    backup_mode: Literal["interval", "continuous"] = Field(
        "interval", description="`continuous`: changes of SQLite are shipped as well, by Litestream, within seconds."
    )
    backup_ship_interval: float = Field(
        3.0, ge=0.1, description="Seconds between shipments; each is a request to the bucket, and what may be lost."
    )
    litestream: str | None = Field(None, description="Path of the program that ships; found in PATH by default.")
    writer_lease: float = Field(
        30.0,
        ge=0,
        description="Seconds after which a vanished writer of SQLite with a bucket is replaced; 0: nobody makes sure "
        "that there is only one.",
    )
    writer_yields: bool = Field(
        False,
        description="Whether the instance that writes, or runs the pods, leaves, as on SIGTERM, when a new one waits; "
        "for platforms that tell the old one late, as Cloud Run. Not where an instance that ended is started again.",
    )

    # Sessions and turns
    session_ttl: float = Field(86_400, gt=0, description="Seconds without activity until a session expires.")
    idle_timeout: float = Field(120, gt=0, description="Seconds after a turn until the pod sleeps.")
    lease: float = Field(15.0, gt=0, description="Seconds a turn's lease lives; renewed three times in that time.")
    answer_within: float = Field(30.0, gt=0, description="Seconds until a running turn is answered 202.")
    repair_interval: float = Field(2.0, gt=0, description="Seconds between repairs, and the age of what they look at.")
    max_drains: int = Field(64, ge=1, description="Sessions drained at once by one front door.")
    max_wakes: int = Field(32, ge=1, description="Pods started at once.")
    retry_first: float = Field(5.0, gt=0, description="Seconds until a failed start is tried again; doubles.")
    retry_last: float = Field(300.0, gt=0, description="Longest pause between tries of a failed start, seconds.")
    heartbeat: float = Field(
        5.0,
        gt=0,
        description="Seconds for which pod addresses are trusted without a heartbeat, and a machine that fell silent "
        "keeps others from running pods.",
    )

    # Pods
    session_classes: Path | None = Field(None, description="YAML file of SessionClasses for the process runtime.")
    session_runtime: Literal["process", "kubernetes"] = Field("process", description="What runs pods.")
    sessions_namespace: str = Field("default", description="Namespace of Sessions, SessionClasses and their pods.")
    install_id: str = Field("session-manager", description="Marks the Sessions of one installation in a cluster.")
    pod_cidrs: str = Field("", description="Comma-separated networks of pods; only addresses there are believed.")
    session_manager_url: str | None = Field(
        None, description="Address at which pods reach this service; on one machine where it listens."
    )
    user_pod_image: str | None = Field(None, description="Image of the default class on Kubernetes.")
    user_pod_port: int = Field(1111, ge=1, le=65535, description="Port of the default class on Kubernetes.")

    # Limits per caller
    rate_limit_create: str = Field("100/minute", description="POST /session/create; or off.")
    rate_limit_wake: str = Field("50/minute", description="POST …/wake; or off.")
    rate_limit_chat: str = Field("100/minute", description="POST …/chat; or off.")
    rate_limit_delete: str = Field("50/minute", description="DELETE /session/{id}; or off.")
    rate_limit_default: str = Field("3000/minute", description="Every other route; or off.")

    # What is shown
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: str = Field("auto", description="json, pretty, or auto: pretty on a terminal.")

    # Handed to agents only
    gemini_api_key: SecretStr | None = Field(None, description="For agents only.")
    gemini_model: str | None = Field(None, description="For agents only.")
    openai_api_key: SecretStr | None = Field(None, description="For agents only.")
    anthropic_api_key: SecretStr | None = Field(None, description="For agents only.")
    google_api_key: SecretStr | None = Field(None, description="For agents only.")

    @field_validator("session_api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        keys: dict[str, str] = {}
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, colon, key = entry.partition(":")
            if not colon or not name or len(key) < 16:
                raise ValueError("each entry is name:key or name@user:key, the key of 16 characters or more")
            caller = name.partition("@")[0]
            if caller in RESERVED_NAMES or not re.fullmatch(r"[\w.-]+", caller):
                raise ValueError("a name has letters, digits, '.', '_' and '-', and is not local or anonymous")
            if name in keys:
                raise ValueError(f"the name {name!r} stands twice")
            keys[name] = key
        return keys

    @property
    def listen_port(self) -> int:
        return self.container_port if self.port is None else self.port

    @property
    def backup_place(self) -> str | None:
        """Name or URL of where backups go; None: nowhere."""
        if self.storage_bucket is not None:
            return None if self.storage_bucket.strip().lower() == "off" else self.storage_bucket.strip()
        return f"{self.google_cloud_project}-session-storage" if self.google_cloud_project else None
