"""Compressed streams: damaged ones are rejected, and memory stays bounded."""

from __future__ import annotations

import pytest

from session_manager.backup.packing import compress, decompress
from session_manager.domain.errors import BackupDamaged


@pytest.mark.parametrize("altered", [b"", b"nothing of the kind", b"".join(compress([b"x" * 9999]))[:-3]])
def test_a_stream_that_cannot_be_unpacked_is_damaged(altered: bytes):
    with pytest.raises(BackupDamaged):
        list(decompress([altered], 10_000))


def test_unpacking_stops_at_the_expected_size():
    with pytest.raises(BackupDamaged, match="more than"):
        for block in decompress(compress([b"\0" * 50_000_000]), 1_000_000):
            assert len(block) <= 1024 * 1024
