"""The bounds of JSON text: counted without parsing, and equal to what a parser finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain import json_bounds
from session_manager.domain.json_bounds import (
    ALWAYS_FITS,
    MOST_DIGITS,
    MOST_VALUES,
    excess,
    may_overflow,
    outside_strings,
)

VALUES = "at most 100000 values"
DIGITS = "at most 40000 digits in numbers of 20 digits or more"
MIB = 1024 * 1024

TEXTS = st.text(st.sampled_from('"\\,[]{}:1e\n ü')) | st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda values: st.lists(values) | st.dictionaries(TEXTS, values),
)


def count(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inside))


@given(JSON, st.booleans(), st.sampled_from([None, (",", ":")]), st.integers(1, 20))
def test_values_are_counted_as_a_parser_finds_them(
    value: Any, ascii_only: bool, separators: tuple[str, str] | None, window: int
):
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bounds, "WINDOW", window)
        pieces = list(outside_strings(text))
    assert 1 + sum(map(json_bounds._values, pieces)) == count(value)
    assert 1 + json_bounds._values(b"".join(pieces)) == count(value)


def many(value: bytes, times: int) -> bytes:
    return b"[" + b",".join([value] * times) + b"]"


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (many(b"{}", MOST_VALUES - 1), None),
        (many(b"{}", MOST_VALUES), VALUES),
        (many(b'{"a":1}', MOST_VALUES // 2), VALUES),
        (many(b'"a"', MOST_VALUES - 1), None),
        (many(b'"a"', MOST_VALUES), VALUES),
        (b'{"message":"x","z":' + many(b"{}", 2_000_000) + b"}", VALUES),
        (b" " * 100 + many(b"{}", MOST_VALUES), VALUES),
        (b"\xef\xbb\xbf" + many(b"{}", MOST_VALUES), VALUES),
        (b"[" * 2_000_000, VALUES),
        (b"{" + b",".join([b'"a":1'] * MOST_VALUES) + b"}", VALUES),
        (b'["' + b'","' * 2_000_000, VALUES),
        (many(b"{}", ALWAYS_FITS // 3 - 1), None),
        (b'{"message":"' + b"," * MIB + b'"}', None),
        (b'{"message":"' + b"[{" * MIB + b'"}', None),
        (b'{"message":"' + b'\\"' * MIB + b'"}', None),
        (b'{"message":"' + b"\\\\" * MIB + b'"}', None),
        (b'{"message":"' + b"7" * MIB + b'"}', None),
        (b'"' + b"," * MIB + b'"', None),
        (b"Hello, " * MIB, None),
        (b"7" * MIB, None),  # a single number, which every parser refuses at once
        (b"[" + b"7" * (MOST_DIGITS + 20) + b"]", DIGITS),
        (many(b"7" * 100, MOST_DIGITS // 100), None),
        (many(b"7" * 100, MOST_DIGITS // 100 + 1), DIGITS),
        (many(b"0.12345678901234567", 99_000), None),
        (many(b"1234567890123456789", 99_000), None),
    ],
)
def test_the_bounds_of_long_texts(text: bytes, bound: str | None):
    assert excess(text) == bound


@pytest.mark.parametrize(
    ("number", "may"),
    [
        ("1" + "0" * 309, True),
        ("9" * 308, False),
        ("1e999", True),
        ("1E5", True),
        ("true", False),
        ("[false, null, 1.5, -7]", False),
        ('"1e999"', False),
        ('{"e": "' + "1" * 400 + '"}', False),
    ],
)
def test_only_numbers_can_be_too_large(number: str, may: bool):
    assert may_overflow(number.encode()) is may
