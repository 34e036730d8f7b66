"""One rule for the ids of users: in a body, in X-User-Id, in a path and in a key."""

from __future__ import annotations

import pytest

from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import LONGEST_ID, valid_user_id
from session_manager.settings.server import api_keys


@pytest.mark.parametrize("text", ["ada", " ada ", "Ada Lovelace", "ü" * LONGEST_ID, " " + "x" * LONGEST_ID])
def test_a_valid_id_is_trimmed(text: str):
    assert valid_user_id(text) == text.strip()
    [key] = api_keys(f"web@{text}:correct-horse-battery")
    assert key.user == text.strip()


@pytest.mark.parametrize("text", ["", "  ", "x" * (LONGEST_ID + 1), "a\x07b", "a\0b", "a\nb"])
def test_an_invalid_id_is_rejected(text: str):
    with pytest.raises(InvalidInput, match=r"^user_id: must be 1 to 128 printable characters$"):
        valid_user_id(text)
    with pytest.raises(ValueError):
        api_keys(f"web@{text}:correct-horse-battery")


@pytest.mark.parametrize("value", [None, 5, ["ada"]])
def test_only_text_is_an_id(value: object):
    with pytest.raises(InvalidInput, match=r"^user_id: must be a string$"):
        valid_user_id(value)
