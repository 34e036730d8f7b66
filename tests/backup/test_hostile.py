"""Objects from an attacker who may write to the bucket but has no key."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Manifest, data_of, manifest_of, new_name
from session_manager.backup.litestream import Litestream, announce, line_of
from session_manager.backup.packing import compress
from session_manager.backup.sqlite import SqliteSource
from session_manager.backup.writer import NO_WRITER, Succession, read_stamp
from session_manager.domain.errors import BackupDamaged, BackupError, BackupNotForUs
from session_manager.leadership.bucket_lease import Record
from session_manager.storage import places
from session_manager.storage.places import Place
from tests.backup.conftest import of
from tests.backup.databases import fill


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


KEY, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (7, 8))


@pytest.fixture
def sealed(folder: Place, database: Path) -> Backups:
    return of(database, folder, KEY)


@pytest.fixture
async def forged(folder: Place, tmp_path: Path) -> Manifest:
    """A newer plain backup of the latest term, with a trigger, from somebody without a key."""
    path = tmp_path / "forged" / "sessions.db"
    await fill(path, sessions=1, messages=1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER evil AFTER INSERT ON message BEGIN DELETE FROM message; END")
    backups = of(path, folder)
    backups.term = 999
    return backups.create()


def change_manifest(place: Place, backup: str, **claims: object) -> None:
    def change(data: bytes) -> bytes:
        return (json.dumps({**json.loads(data), **claims}, indent=1) + "\n").encode()

    alter(place, manifest_of(backup), change)


async def test_a_forged_backup_does_not_count(sealed: Backups, forged: Manifest, folder: Place, tmp_path: Path):
    good = sealed.create()
    assert sealed.catalog.all() == [good]
    assert sealed.catalog.newest() == good
    assert good.term == 0
    assert sealed.create_if_due(3600.0) == good
    for restored in (
        of(tmp_path / "a" / "s.db", folder, KEY).restore_if_missing(),
        of(tmp_path / "b" / "s.db", folder, KEY).restore(),
    ):
        assert restored is not None
        assert restored.manifest == good
    assert [each.authenticated for each in sealed.catalog.everything()] == [False, True]


async def test_a_forged_backup_is_not_taken_by_its_name(
    sealed: Backups, forged: Manifest, folder: Place, tmp_path: Path
):
    elsewhere = of(tmp_path / "c" / "s.db", folder, KEY)
    for call in (elsewhere.restore, elsewhere.verify):
        with pytest.raises(BackupDamaged, match="not authenticated by a key"):
            call(forged.name)
    assert not elsewhere.source.holds_data()
    assert elsewhere.restore(forged.name, accept_unauthenticated=True).manifest == forged


async def test_forged_backups_alone_do_not_let_a_start_begin_empty(forged: Manifest, folder: Place, tmp_path: Path):
    elsewhere = of(tmp_path / "d" / "s.db", folder, KEY)
    with pytest.raises(BackupDamaged, match=r"^None of the backups is authenticated by a key"):
        elsewhere.restore_if_missing()


async def test_forged_backups_do_not_push_good_ones_out(folder: Place, database: Path, forged: Manifest):
    kept = of(database, folder, KEY, count=1, days=0.0)
    good = kept.create()
    pruned = kept.prune(datetime.now(UTC) + timedelta(days=100))
    assert pruned.backups == []
    assert kept.catalog.all() == [good]


@pytest.mark.parametrize(
    "claims",
    [
        {"term": 999},
        {"taken_at": "2099-01-01T00:00:00Z"},
        {"sha256": "0" * 64},
        {"rows": {}},
        {"encryption": None},
        {"key": None},
        {"mac": "0" * 64},
        {"mac": None},
        {"program": "9.9.9"},
        {},  # the same content in other bytes
    ],
)
async def test_no_member_of_a_manifest_can_be_changed(sealed: Backups, folder: Place, claims: dict[str, object]):
    first, second = sealed.create(), sealed.create()
    change_manifest(folder, first.name, **claims, **({} if claims else {"z": 1}))
    fresh = of(sealed.source.path, folder, KEY)  # type: ignore[attr-defined]
    assert fresh.catalog.all() == [second]
    with pytest.raises(BackupDamaged):
        fresh.restore(first.name)


async def test_a_manifest_does_not_prove_another_backup(sealed: Backups, folder: Place):
    made = sealed.create()
    name = new_name(datetime.now(UTC) + timedelta(days=1))
    folder.write(data_of(name), list(folder.read(data_of(made.name))))
    content = b"".join(folder.read(manifest_of(made.name)))
    folder.write(manifest_of(name), [content])
    with pytest.raises(BackupDamaged, match="belongs to another backup"):
        sealed.catalog.get(name)
    alter(folder, manifest_of(name), lambda data: data.replace(made.name.encode(), name.encode()))
    with pytest.raises(BackupDamaged, match="not authenticated"):
        sealed.catalog.get(name)


async def test_something_after_the_proof_makes_it_void(sealed: Backups, folder: Place):
    made = sealed.create()
    alter(folder, manifest_of(made.name), lambda data: data + b" ")
    with pytest.raises(BackupDamaged, match="not authenticated"):
        of(sealed.source.path, folder, KEY).catalog.get(made.name)  # type: ignore[attr-defined]


async def test_a_newer_backup_with_a_missing_key_stops_a_start(folder: Place, database: Path, tmp_path: Path):
    of(database, folder, KEY).create()
    of(database, folder, OTHER).create()
    elsewhere = of(tmp_path / "e" / "s.db", folder, KEY)
    with pytest.raises(BackupNotForUs, match="not among BACKUP_ENCRYPTION_KEYS"):
        elsewhere.restore_if_missing()
    assert len(elsewhere.catalog.all()) == 1


async def test_a_new_writer_takes_neither_a_forged_backup_nor_forged_changes(
    sealed: Backups, forged: Manifest, folder: Place, tmp_path: Path
):
    good = sealed.create()
    record = Record(999, "evil", 30.0)
    announce(line_of(folder, record), record)
    path = tmp_path / "writer" / "sessions.db"
    backups = of(path, folder, KEY)
    tool = Litestream(Path("/nonexistent/litestream"))  # it is not asked
    ours, before = Record(1, "us", 30.0), Record(0, "", 30.0)
    await Succession(backups, SqliteSource(path), tool).begin(ours, before)
    assert read_stamp(path) != NO_WRITER
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone()[0] == good.sessions
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'evil'").fetchall() == []
