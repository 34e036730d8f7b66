"""The types of settings: the text that each accepts, and the error for other text."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

Network = IPv4Network | IPv6Network

ORIGIN = re.compile(r"https?://([a-z0-9]([-a-z0-9.]*[a-z0-9])?|\[[0-9a-f:]+\])(:[1-9]\d{0,4})?")
DAY = 86_400.0  # seconds
TEN_YEARS = 3650 * DAY


class Group(BaseSettings):
    """Settings of one subject. The alias of a field is its variable; its text gives the unit, and why its default."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        enable_decoding=False,
        validate_default=False,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


def expects(noun: str, expected: str, *, secret: bool = False) -> WrapValidator:
    """Describe a type for the error about other text. The text of a ``secret`` is neither shown nor stripped."""

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value.strip() if isinstance(value, str) and not secret else value)
        except ValueError:
            text = printable(str(value)[:80])
            found = noun if secret or "@" in text else f'{noun} "{text}"'  # a URL in the wrong place has a password
            raise PydanticCustomError("setting", f"invalid {found}; expected {expected}") from None

    return WrapValidator(check)


def printable(value: object) -> str:
    """Replace characters that would move the cursor or begin another line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def _one_line(secret: SecretStr) -> SecretStr:
    if set("\n\r") & set(secret.get_secret_value()):
        raise ValueError
    return secret


def networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not text.isprintable():
        raise ValueError
    return text


def origins(text: str) -> tuple[str, ...]:
    return tuple(_origin(part.strip()) for part in text.split(",") if part.strip())


def _origin(text: str) -> str:
    """Return an origin exactly as browsers send it: in lower case, without a path and without the usual port."""
    parts = urlsplit(text)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    if usual is None or parts.port in (usual, 0) or not ORIGIN.fullmatch(text):
        raise ValueError
    return text


def _path(path: Path) -> Path:
    if not str(path).isprintable():
        raise ValueError
    return path


Seconds = Annotated[float, Field(ge=0.001, le=DAY), expects("number of seconds", "0.001 to 86400")]
SecondsOrZero = Annotated[float, Field(ge=0, le=DAY), expects("number of seconds", "0 to 86400")]
LongSeconds = Annotated[float, Field(ge=0.001, le=TEN_YEARS), expects("number of seconds", "0.001 to 315360000")]
UpTo1000 = Annotated[int, Field(ge=1, le=1000), expects("number", "a whole number from 1 to 1000")]
UpTo100000 = Annotated[int, Field(ge=1, le=100_000), expects("number", "a whole number from 1 to 100000")]
Port = Annotated[int, Field(ge=1, le=65_535), expects("port", "a whole number from 1 to 65535")]
# 0 takes a free one.
AnyPort = Annotated[int, Field(ge=0, le=65_535), expects("port", "a whole number from 0 to 65535")]
Flag = Annotated[bool, expects("flag", "true or false")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$"), expects("text", "printable characters in one line")]
Host = Annotated[
    str, Field(pattern=r"^[^\s/@\[\]\x00-\x1f]+$"), expects("host", "a name or an IP address without a port")
]
FilePath = Annotated[Path, AfterValidator(_path), expects("path", "the path of a file or folder")]
Url = Annotated[str, AfterValidator(_url), expects("address", "a URL like https://sessions.example:8080")]
Networks = Annotated[
    tuple[Network, ...], PlainValidator(networks), expects("network", "comma-separated networks like 10.0.0.0/8")
]
Origins = Annotated[
    tuple[str, ...],
    PlainValidator(origins),
    expects(
        "list of origins",
        "comma-separated origins as browsers send them, like https://app.example or http://localhost:3000; "
        "no * or null, no path or trailing slash, no capital letters, no default port (80, 443)",
    ),
]
Secret = Annotated[SecretStr, expects("value", "text", secret=True)]
# Any characters but line breaks. Editors and `echo` put one at the end, and not every server counts it.
Password = Annotated[
    SecretStr, AfterValidator(_one_line), expects("password", "one line, without a line break at its end", secret=True)
]
