"""Bounds of JSON text that are checked before it is parsed.

A parser never lets go of the interpreter, not even in a thread, so the only way to bound the time that it takes is to
count first.  Counting runs at the speed of memory: tens of milliseconds for 8 MiB at worst.  The count is exact for
every text that a parser would read to its end, and for the part that it reads of any other text.
"""

from __future__ import annotations

MOST_VALUES = 100_000  # takes a parser 10 ms at most
LONG_NUMBER = 20  # digits; a float never has as many in one piece
MOST_DIGITS = 40_000  # in long numbers: converting them takes far longer than reading them
ALWAYS_FITS = 32 * 1024  # bytes, which are parsed within a millisecond or two whatever they contain

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * LONG_NUMBER
_BEYOND_FLOATS = b"0" * 309
_BOM = b"\xef\xbb\xbf"


def excess(text: bytes) -> str | None:
    """Return the bound that the JSON text exceeds, as words like "at most 100000 values", or None.

    Text in strings does not count, and neither does text that is not JSON from its first character on.
    """
    if len(text) <= ALWAYS_FITS or not _opens(text):
        return None
    if _separators(text) < MOST_VALUES and _long_digits(text) <= MOST_DIGITS:
        return None
    outside = outside_strings(text)
    if outside is None or _values(outside) > MOST_VALUES:
        return f"at most {MOST_VALUES} values"
    if _long_digits(outside) > MOST_DIGITS:
        return f"at most {MOST_DIGITS} digits in numbers of {LONG_NUMBER} digits or more"
    return None


def outside_strings(text: bytes) -> bytes | None:
    """Return the JSON text with a quote for each string, or None for more than ``MOST_VALUES`` values can have."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * MOST_VALUES:  # each value has one string or none, and perhaps a key
        return None
    return b'"'.join(bare.split(b'"')[::2])


def may_overflow(text: bytes) -> bool:
    """Return False if no number of the JSON text is too large for a float."""
    outside = outside_strings(text) or b""
    exponents = sum(map(outside.count, (b"e", b"E"))) - sum(map(outside.count, (b"true", b"false")))
    return exponents > 0 or _BEYOND_FLOATS in outside.translate(_DIGITS)


def _opens(text: bytes) -> bool:
    """Return True if the text may be an array or an object; anything else has one value."""
    start = text[:64].removeprefix(_BOM).lstrip()
    return not start or start[:1] in b"[{"


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _values(outside: bytes) -> int:
    """Return the number of values: one, one for each comma, and one for each array and object that is not empty."""
    return 1 + _separators(outside) - outside.count(b"[]") - outside.count(b"{}")


def _long_digits(text: bytes) -> int:
    return LONG_NUMBER * text.translate(_DIGITS).count(_LONG_NUMBER)
