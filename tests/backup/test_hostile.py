"""Objects from an attacker who may write to the bucket but has no key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import data_of, manifest_of
from session_manager.backup.packing import compress
from session_manager.domain.errors import BackupDamaged, BackupError
from session_manager.storage import places
from session_manager.storage.places import Place


def alter(place: Place, name: str, change: Callable[[bytes], bytes]) -> None:
    data = b"".join(place.read(name))
    place.delete(name)
    place.write(name, [change(data)])


async def test_an_endless_manifest_is_damaged_and_not_fetched(
    backups: Backups, folder: Place, monkeypatch: pytest.MonkeyPatch
):
    good = backups.create()
    other = backups.create()
    alter(folder, manifest_of(other.name), lambda data: b" " * 2 * places.BLOCK + data)
    fetched: list[int] = []
    read = folder.read
    monkeypatch.setattr(folder, "read", lambda name: _noted(fetched, read(name)))
    with pytest.raises(BackupDamaged, match="could not be read"):
        backups.catalog.get(other.name)
    assert fetched == [places.BLOCK]
    monkeypatch.undo()
    assert backups.catalog.all() == [good]


def _noted(sizes: list[int], blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        sizes.append(len(block))
        yield block


async def test_a_backup_that_would_fill_the_disk_is_not_unpacked(backups: Backups, folder: Place):
    """A few bytes of zstd may unpack to terabytes. The manifest says how many, and must be checked first."""
    made = backups.create()
    bomb = b"".join(compress(bytes(1024 * 1024) for _ in range(32)))
    claims = {"size": 2**50, "stored_size": len(bomb)}
    alter(folder, data_of(made.name), lambda _: bomb)
    alter(folder, manifest_of(made.name), lambda data: json.dumps({**json.loads(data), **claims}).encode())
    with pytest.raises(BackupError, match="no room left on the disk"):
        backups.verify(made.name)
