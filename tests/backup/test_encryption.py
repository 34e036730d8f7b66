"""Encryption and compression give back what was put in, and reject everything else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.backup.packing import MAGIC, Keys, compress, decompress, decrypt, encrypt
from session_manager.domain.errors import BackupDamaged, BackupError, StartupFailure

ONE, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
HEAD = len(MAGIC) + 32
BLOCK = 64 * 1024 + 16


def key(text: str = ONE):
    found = Keys.parse(text).first
    assert found is not None
    return found


def sealed(data: bytes, name: str = "a") -> bytes:
    return b"".join(encrypt(key(), name, [data]))


def opened(data: bytes, name: str = "a", text: str = ONE) -> bytes:
    return b"".join(decrypt(key(text), name, [data]))


@given(st.lists(st.binary(max_size=200_000), max_size=4), st.integers(1, 300_000))
def test_everything_that_is_encrypted_and_compressed_comes_back(blocks: list[bytes], cut: int):
    plain = b"".join(blocks)
    stored = b"".join(encrypt(key(), "a", compress(blocks)))
    pieces = [stored[at : at + cut] for at in range(0, len(stored), cut)]
    assert b"".join(decompress(decrypt(key(), "a", pieces), len(plain))) == plain


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 128 * 1024])
def test_sizes_around_a_block(size: int):
    assert opened(sealed(b"x" * size)) == b"x" * size


THREE = sealed(b"x" * (3 * 64 * 1024))
FIRST, SECOND, THIRD = (THREE[HEAD + BLOCK * number : HEAD + BLOCK * (number + 1)] for number in range(3))


@pytest.mark.parametrize(
    "altered",
    [
        THREE[:-1],
        THREE[: HEAD + 2 * BLOCK],
        THREE[:HEAD],
        THREE[: HEAD - 1],
        b"",
        THREE + b"x",
        THREE + THIRD,
        THREE[:HEAD] + SECOND + FIRST + THIRD,
        THREE[:HEAD] + FIRST + THIRD,
        THREE[: HEAD - 1] + b"?" + THREE[HEAD:],
        THREE[: HEAD + 5] + bytes([THREE[HEAD + 5] ^ 1]) + THREE[HEAD + 6 :],
    ],
    ids=["cut", "a block less", "no block", "half a head", "empty", "longer", "the last twice", "swapped",
         "one left out", "other salt", "a bit"],
)  # fmt: skip
def test_an_alteration_is_noticed(altered: bytes):
    with pytest.raises(BackupDamaged):
        opened(altered)


def test_an_object_is_rejected_under_another_backup_name_or_key():
    for name, text in (("b", ONE), ("a", OTHER)):
        with pytest.raises(BackupDamaged):
            opened(THREE, name, text)


def test_older_keys_decrypt_and_a_missing_key_is_named():
    keys = Keys.parse(f"{OTHER},{ONE}")
    assert keys.first == key(OTHER)
    assert keys.find(key(ONE).id) == key(ONE)
    with pytest.raises(BackupError, match=key(ONE).id):
        Keys.parse(OTHER).find(key(ONE).id)


@pytest.mark.parametrize("text", ["secret", "c2hvcnQ=", f"{ONE},x"])
def test_an_invalid_key_is_reported_without_being_repeated(text: str):
    with pytest.raises(StartupFailure) as raised:
        Keys.parse(text)
    assert text not in raised.value.detail
