"""Replies as bytes, in RESP2 or RESP3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fakeredis._helpers import SimpleError, SimpleString

MESSAGES = frozenset(
    prefix + name for prefix in (b"", b"p", b"s") for name in (b"message", b"subscribe", b"unsubscribe")
)


def encode(value: Any, protocol: int) -> bytes:
    """Return one reply or message. RESP3 marks messages of a subscription as pushed."""
    if protocol == 3 and type(value) is list and value and type(value[0]) is bytes and value[0] in MESSAGES:
        return _many(b">", len(value), value, 3)
    return _encode(value, protocol)


def _encode(value: Any, protocol: int) -> bytes:
    if isinstance(value, SimpleString):
        return b"+%b\r\n" % value.value
    if isinstance(value, SimpleError):
        return b"-%b\r\n" % " ".join(value.value.split()).encode()
    if isinstance(value, (list, tuple)):
        return _many(b"*", len(value), value, protocol)
    if isinstance(value, dict):
        flat = [part for pair in value.items() for part in pair]
        return _many(b"%", len(value), flat, 3) if protocol == 3 else _many(b"*", len(flat), flat, 2)
    return _encode_scalar(value, protocol)


def _encode_scalar(value: Any, protocol: int) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if isinstance(data, bytes):
        return b"$%d\r\n%b\r\n" % (len(data), data)
    if data is None:
        return b"_\r\n" if protocol == 3 else b"$-1\r\n"
    if isinstance(data, float):
        text = b"%.17g" % data
        return b",%b\r\n" % text if protocol == 3 else _encode_scalar(text, 2)
    if isinstance(data, bool) and protocol == 3:
        return b"#t\r\n" if data else b"#f\r\n"
    return b":%d\r\n" % data


def _many(mark: bytes, count: int, items: Iterable[Any], protocol: int) -> bytes:
    return b"%b%d\r\n%b" % (mark, count, b"".join([_encode(item, protocol) for item in items]))
