"""Where the server listens, who may call it and how often, how long it waits, and what it logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote

from limits import RateLimitItem, parse_many
from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, model_validator

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.values import valid_user_id
from session_manager.settings.kinds import (
    DAY,
    TEN_YEARS,
    AnyPort,
    FilePath,
    Group,
    Host,
    Networks,
    Origins,
    Seconds,
    SecondsOrZero,
    Text,
    expects,
)

RESERVED_NAMES = frozenset({"local", "anonymous", "pod"})  # callers without a key
SHORTEST_KEY = 16
CLASS_NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
MOST_REQUESTS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``caller`` names the key in limits and logs. It acts for ``user`` only; None: for any user."""

    caller: str
    user: str | None
    secret: SecretStr


def api_keys(text: str) -> tuple[ApiKey, ...]:
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    keys = tuple(_api_key(entry) for entry in entries)
    if len({(key.caller, key.user) for key in keys}) < len(keys):
        raise ValueError
    return keys


def _api_key(entry: str) -> ApiKey:
    name, _, key = entry.partition(":")
    caller, at, user = name.partition("@")
    if at and ":" in key:
        raise ValueError  # a colon of the user's id would otherwise end it, and the key would be another user's
    if caller in RESERVED_NAMES or not re.fullmatch(r"[\w.-]+", caller) or len(key) < SHORTEST_KEY:
        raise ValueError
    try:
        bound = valid_user_id(unquote(user, errors="strict")) if at else None
    except (InvalidInput, UnicodeDecodeError):
        raise ValueError from None
    return ApiKey(caller, bound, SecretStr(key))


def key_classes(text: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        name, colon, session_class = entry.partition(":")
        if not colon or not re.fullmatch(r"[\w.-]+", name) or not re.fullmatch(CLASS_NAME, session_class):
            raise ValueError
        found.setdefault(name, set()).add(session_class)
    return {name: frozenset(classes) for name, classes in found.items()}


def _rate(text: str) -> RateLimitItem | None:
    if text.lower() == "off":
        return None
    [rate] = parse_many(text)
    if not (1 <= rate.amount <= MOST_REQUESTS and 1 <= rate.get_expiry() <= TEN_YEARS):
        raise ValueError
    return rate


ApiKeys = Annotated[
    tuple[ApiKey, ...],
    PlainValidator(api_keys),
    expects(
        "list of keys",
        "name:key or name@user:key entries, each name once and not local, anonymous or pod, "
        f"each key of {SHORTEST_KEY} characters or more; in a user write : as %3A, a comma as %2C and % as %25",
        secret=True,
    ),
]
KeyClasses = Annotated[
    dict[str, frozenset[str]],
    PlainValidator(key_classes),
    expects("list of classes", "name:class entries, such as web:default,web:small"),
]
KeepAlive = Annotated[int, Field(ge=1, le=DAY), expects("number of seconds", "a whole number from 1 to 86400")]
Rate = Annotated[RateLimitItem | None, PlainValidator(_rate), expects("rate", "for example 100/minute or off")]
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(str.upper),
    expects("level", "DEBUG, INFO, WARNING or ERROR"),
]
LogFormat = Annotated[
    Literal["json", "pretty", "auto"], BeforeValidator(str.lower), expects("format", "json, pretty or auto")
]


class ServerSettings(Group):
    host: Host = Field("127.0.0.1", alias="HOST")
    """Address to listen on. Anything but loopback needs SESSION_API_KEYS."""
    port: AnyPort | None = Field(None, alias="PORT")
    """Port to listen on. Wins over CONTAINER_PORT, because platforms like Cloud Run set PORT."""
    container_port: AnyPort = Field(8080, alias="CONTAINER_PORT")
    """Port to listen on when PORT is not set."""
    api_keys: ApiKeys = Field((), alias="SESSION_API_KEYS")
    """Comma-separated name:key, or name@user:key to act for that user only, with `:`, `,` and `%` of the user as
    %3A, %2C and %25. The names local, anonymous and pod are reserved."""
    key_classes: KeyClasses = Field({}, alias="KEY_CLASSES")
    """Comma-separated name:class. A key named here sees and uses only its SessionClasses; all other keys see every
    class."""
    trusted_proxies: Networks = Field((), alias="TRUSTED_PROXIES")
    """Networks of proxies whose X-Forwarded-For is trusted. By default none, because callers can forge the header."""
    cors_origins: Origins = Field((), alias="CORS_ORIGINS")
    """Comma-separated origins of web pages that may call, such as https://app.example. By default none."""
    data_dir: FilePath = Field(Path("data"), alias="DATA_DIR")
    """Folder for sessions' homes, logs, and the data of SQLite and Redis."""
    request_timeout: Seconds = Field(60.0, alias="REQUEST_TIMEOUT")
    """Seconds for a request to arrive in full, or 408. Fits slow lines."""
    keep_alive_timeout: KeepAlive = Field(75, alias="KEEP_ALIVE_TIMEOUT")
    """Seconds until an idle connection is closed. Longer than a proxy keeps it (nginx: 60)."""
    shutdown_delay: SecondsOrZero = Field(0.0, alias="SHUTDOWN_DELAY")
    """Seconds of service after SIGTERM. Use 5 or more behind a proxy."""
    shutdown_timeout: Seconds = Field(30.0, alias="SHUTDOWN_TIMEOUT")
    """Seconds for running turns to finish; Kubernetes waits as long by default. 3 under `dev`."""

    @model_validator(mode="after")
    def _classes_of_known_keys(self) -> Self:
        unknown = sorted(self.key_classes.keys() - {key.caller for key in self.api_keys})
        if unknown:
            raise StartupFailure(
                f'KEY_CLASSES: unknown key "{unknown[0]}"; expected the name of a key in SESSION_API_KEYS'
            )
        return self

    @property
    def listen_port(self) -> int:
        return self.container_port if self.port is None else self.port


class LimitSettings(Group):
    """Rate limits per caller."""

    create: Rate = Field(_rate("100/minute"), alias="RATE_LIMIT_CREATE")
    """Limit for POST /session/create, or off."""
    wake: Rate = Field(_rate("50/minute"), alias="RATE_LIMIT_WAKE")
    """Limit for POST …/wake, or off."""
    chat: Rate = Field(_rate("100/minute"), alias="RATE_LIMIT_CHAT")
    """Limit for POST …/chat, or off."""
    delete: Rate = Field(_rate("50/minute"), alias="RATE_LIMIT_DELETE")
    """Limit for DELETE /session/{id}, or off."""
    default: Rate = Field(_rate("3000/minute"), alias="RATE_LIMIT_DEFAULT")
    """Limit for every other route, or off."""
    failed_keys: Rate = Field(_rate("30/minute"), alias="RATE_LIMIT_FAILED_KEYS")
    """Limit for wrong keys per address, or off. Valid keys pass: people may share an address."""


class LogSettings(Group):
    level: Level = Field("INFO", alias="LOG_LEVEL")
    """Least severity that is logged: DEBUG, INFO, WARNING or ERROR."""
    format: LogFormat = Field("auto", alias="LOG_FORMAT")
    """json, pretty, or auto: pretty on a terminal."""
    instance: Text = Field("", alias="INSTANCE")
    """Name of this replica in logs; by default the host name."""
