"""The kinds of values that settings have: the text that each accepts, and the error for other text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

T_co = TypeVar("T_co", covariant=True)
Network = IPv4Network | IPv6Network

DAY = 86_400.0  # seconds
TEN_YEARS = 3650 * DAY

_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """``parse`` raises ValueError for text that is not valid. The text of a ``secret`` is never shown."""

    noun: str
    expected: str
    parse: Callable[[str], T_co]
    secret: bool = False

    def error(self, variable: str, text: str) -> str:
        """Return one line for a person."""
        shown = "".join(letter if letter.isprintable() else "?" for letter in text[:80])
        value = "" if self.secret else f' "{shown}"'
        return f"{variable}: invalid {self.noun}{value}; expected {self.expected}"


def matching(noun: str, expected: str, pattern: str) -> Kind[str]:
    """Text that matches ``pattern`` as a whole."""
    form = re.compile(pattern)

    def parse(text: str) -> str:
        if not form.fullmatch(text):
            raise ValueError
        return text

    return Kind(noun, expected, parse)


def whole_number(most: int, least: int = 1, noun: str = "number") -> Kind[int]:
    def parse(text: str) -> int:
        return _within(int(text), least, most)

    return Kind(noun, f"a whole number from {least} to {most}", parse)


def number(unit: str, most: float, least: float) -> Kind[float]:
    def parse(text: str) -> float:
        return _within(float(text), least, most)

    return Kind(f"number of {unit}", f"{least:g} to {most:.12g}", parse)


def seconds(most: float = DAY, least: float = 0.001) -> Kind[float]:
    return number("seconds", most, least)


def choice(noun: str, *words: str) -> Kind[str]:
    """One of ``words``, in any case."""
    by_lower_case = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        if text.lower() not in by_lower_case:
            raise ValueError
        return by_lower_case[text.lower()]

    return Kind(noun, f"{', '.join(words[:-1])} or {words[-1]}", parse)


Bound = TypeVar("Bound", int, float)


def _within(value: Bound, least: float, most: float) -> Bound:
    if not least <= value <= most:  # false for NaN, too
        raise ValueError
    return value


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError from None


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not text.isprintable():
        raise ValueError
    return text


def _path(text: str) -> Path:
    if not text.isprintable():
        raise ValueError
    return Path(text)


TEXT = matching("text", "printable characters in one line", r"[^\x00-\x1f\x7f]+")
HOST = matching("host", "a name or an IP address without a port", r"[^\s/@\[\]\x00-\x1f]+")
PORT = whole_number(65_535, noun="port")
ANY_PORT = whole_number(65_535, least=0, noun="port")  # 0 takes a free one
FLAG = Kind("flag", "true or false", _flag)
PATH = Kind("path", "the path of a file or folder", _path)
URL = Kind("address", "a URL like https://sessions.example:8080", _url)
NETWORKS = Kind("network", "comma-separated networks like 10.0.0.0/8", _networks)
SECRET = Kind("value", "text", SecretStr, secret=True)
