"""One rule for ids of users, apps and ADK sessions: in a body, in X-User-Id, in a path and in a key."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest

from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import LONGEST_ID, valid_id, valid_user_id
from session_manager.settings.server import api_keys

SECRET = "correct-horse-battery"
FINE = [
    "ada",
    "Ada Lovelace",
    "ü" * LONGEST_ID,
    "𝔞" * LONGEST_ID,
    "org/ada",
    "org\\ada",
    "auth0|5f7c",
    "ada+test@example.com",
    "a%2Fb",
    "urn:x:y",
    "C:ada",
    "a,b",
    "user",
    "users",
    "...",
    "a..b",
    "spiffe:/x/ada",
    unicodedata.normalize("NFC", "e\u0301"),
]
ODD = [
    ("", "1 to 128 printable"),
    ("  ", "space"),
    (" ada", "space"),
    ("ada ", "space"),
    ("x" * (LONGEST_ID + 1), "1 to 128 printable"),
    ("a\x07b", "printable"),
    ("a\0b", "printable"),
    ("a\nb", "printable"),
    ("a\u200bb", "printable"),
    ("a\u2028b", "printable"),
    ("\ud800", "printable"),
    ("e\u0301", "NFC"),
    (".", "slashes"),
    ("..", "slashes"),
    ("a/../b", "slashes"),
    ("a/./b", "slashes"),
    ("a\\..\\b", "slashes"),
    ("/a", "slashes"),
    ("a/", "slashes"),
    ("a//b", "slashes"),
    ("\\a", "slashes"),
    ("a/users/b", "apps, artifacts, sessions, users, versions"),
    ("Sessions/x", "apps, artifacts, sessions, users, versions"),
]


@pytest.mark.parametrize("text", FINE)
def test_a_valid_id_is_kept_as_it_is(text: str):
    assert valid_user_id(text) == text
    [key] = api_keys(f"web@{quote(text)}:{SECRET}")
    assert key.user == text


@pytest.mark.parametrize(("text", "says"), ODD)
def test_an_invalid_id_is_rejected_with_what_is_allowed(text: str, says: str):
    with pytest.raises(InvalidInput, match=f"^app: .*{says}"):
        valid_id(text, "app")
    with pytest.raises(ValueError):
        api_keys(f"web@{quote(text, errors='surrogatepass')}:{SECRET}")


@pytest.mark.parametrize("entry", [f"web@urn:x:{SECRET}", f"web@a%FFb:{SECRET}", f"web@urn:{SECRET}:{SECRET}"])
def test_a_key_is_never_bound_to_a_part_of_an_id(entry: str):
    with pytest.raises(ValueError):
        api_keys(entry)


@pytest.mark.parametrize("value", [None, 5, ["ada"]])
def test_only_text_is_an_id(value: object):
    with pytest.raises(InvalidInput, match=r"^user_id: must be a string$"):
        valid_user_id(value)
