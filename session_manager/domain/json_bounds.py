"""Bounds of JSON text that are checked before it is parsed.

A parser never lets go of the interpreter, not even in a thread, so the only way to bound the time that it takes is to
count first.  Counting runs at the speed of memory, a window at a time.  The count is exact for
every text that a parser would read to its end, and for the part that it reads of any other text.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST_VALUES = 100_000  # takes a parser 10 ms at most
LONG_NUMBER = 20  # digits; a float never has as many in one piece
MOST_DIGITS = 40_000  # in long numbers: converting them takes far longer than reading them
WINDOW = 128 * 1024  # bytes counted in one step, and after which a text with too much is recognised
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
    values, digits = 1, 0
    for piece in outside_strings(text):
        values += _values(piece)
        digits += _long_digits(piece)
        if values > MOST_VALUES:
            return f"at most {MOST_VALUES} values"
        if digits > MOST_DIGITS:
            return f"at most {MOST_DIGITS} digits in numbers of {LONG_NUMBER} digits or more"
    return None


def outside_strings(text: bytes) -> Iterator[bytes]:
    """Yield the JSON text piece by piece, with a quote in place of each string."""
    at, inside, open_ = 0, False, b""
    while at < len(text):
        piece = _window(text, at)
        at += len(piece)
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside = open_ + b'"'.join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        if inside:
            outside += b'"'
        # A bracket at the end may belong to an empty array or object, of which the next piece has the other bracket.
        open_ = outside[-1:] if outside[-1:] in (b"[", b"{") else b""
        yield outside[:-1] if open_ else outside
    yield open_


def _window(text: bytes, at: int) -> bytes:
    """Return the next piece, which does not end in the middle of an escape."""
    piece = text[at : at + WINDOW]
    if piece.endswith(b"\\"):
        rest = text[at + WINDOW :]
        piece += rest[: len(rest) - len(rest.lstrip(b"\\")) + 1]
    return piece


def may_overflow(text: bytes) -> bool:
    """Return False if no number of the JSON text is too large for a float."""
    outside = b"".join(outside_strings(text))
    exponents = sum(map(outside.count, (b"e", b"E"))) - sum(map(outside.count, (b"true", b"false")))
    return exponents > 0 or _BEYOND_FLOATS in outside.translate(_DIGITS)


def _opens(text: bytes) -> bool:
    """Return True if the text may be an array or an object; anything else has one value."""
    start = text[:64].removeprefix(_BOM).lstrip()
    return not start or start[:1] in b"[{"


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _values(outside: bytes) -> int:
    """Return the number of values but one: one for each comma, and one for each array and object that is not empty."""
    return _separators(outside) - outside.count(b"[]") - outside.count(b"{}")


def _long_digits(text: bytes) -> int:
    return LONG_NUMBER * text.translate(_DIGITS).count(_LONG_NUMBER)
