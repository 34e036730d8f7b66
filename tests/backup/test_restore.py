"""A restore replaces a database in one step, and never one that is newer or in use."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.source import reject_newer_schema
from session_manager.domain.errors import BackupError, Conflict, NotFound
from session_manager.storage.places import Place
from session_manager.store.schema.upgrade import all_migrations
from tests.backup.conftest import of
from tests.backup.databases import add_session, fill, texts
from tests.store.databases import opened


async def test_a_start_keeps_an_existing_database_however_old_it_is(backups: Backups, database: Path):
    backups.create()
    await fill(database, sessions=1, messages=1, text="later")
    before = texts(database)
    assert backups.restore_if_missing() is None
    assert texts(database) == before


async def test_an_empty_file_is_not_a_database(backups: Backups, folder: Place, tmp_path: Path):
    backups.create()
    path = tmp_path / "elsewhere" / "sessions.db"
    path.parent.mkdir()
    path.touch()
    assert of(path, folder).restore_if_missing() is not None
    assert len(texts(path)) == 15


async def test_a_restore_without_backups(backups: Backups, folder: Place, tmp_path: Path):
    assert of(tmp_path / "elsewhere" / "sessions.db", folder).restore_if_missing() is None
    with pytest.raises(NotFound):
        backups.restore()


async def test_a_newer_database_needs_force_and_is_kept_aside(backups: Backups, database: Path):
    backups.create()
    await fill(database, sessions=1, messages=1, text="later")
    newer = texts(database)
    with pytest.raises(Conflict, match="after the backup"):
        backups.restore()
    assert texts(database) == newer
    restored = backups.restore(force=True)
    assert len(texts(database)) == 15
    assert restored.aside is not None
    assert texts(Path(restored.aside)) == newer
    assert backups.restore().manifest == restored.manifest  # the restored database is as old as its backup


async def test_a_database_in_use_is_not_replaced(backups: Backups, database: Path):
    backups.create()
    async with opened(database):
        before = texts(database)
        with pytest.raises(Conflict, match="in use"):
            backups.restore(force=True)
        assert texts(database) == before


async def test_changes_in_the_wal_are_kept_aside_too(backups: Backups, database: Path, tmp_path: Path):
    backups.create()
    killed = tmp_path / "killed" / "sessions.db"
    killed.parent.mkdir()
    async with opened(database) as store:  # as if the process were killed: the WAL stays
        await add_session(store)
        for ending in ("", "-wal"):
            shutil.copy(f"{database}{ending}", f"{killed}{ending}")
    other = of(killed, backups.place)
    restored = other.restore(force=True)
    assert restored.aside is not None
    assert _sessions(Path(restored.aside)) == 4
    assert _sessions(killed) == 3
    assert not Path(f"{killed}-wal").exists()


async def test_a_wal_without_its_database_is_not_applied_to_the_restored_one(
    backups: Backups, database: Path, tmp_path: Path
):
    backups.create()
    path = tmp_path / "elsewhere" / "sessions.db"
    path.parent.mkdir()
    async with opened(database) as store:
        await add_session(store)
        shutil.copy(f"{database}-wal", f"{path}-wal")
    assert of(path, backups.place).restore_if_missing() is not None
    assert _sessions(path) == 3
    assert list(path.parent.glob("sessions.db.before-*-wal"))


async def test_a_damaged_database_is_replaced_and_kept_as_it_is(backups: Backups, database: Path):
    backups.create()
    damage = b"not a database" * 1000
    database.write_bytes(damage)
    with pytest.raises(BackupError):
        backups.create()
    restored = backups.restore(force=True)
    assert len(texts(database)) == 15
    assert restored.aside is not None
    assert Path(restored.aside).read_bytes() == damage


async def test_a_damaged_database_is_not_backed_up(backups: Backups, database: Path):
    """One of its pages is lost, which SQLite itself would copy silently."""
    data = bytearray(database.read_bytes())
    data[4096 * 3 : 4096 * 5] = b"\xff" * 8192
    database.write_bytes(bytes(data))
    with pytest.raises(BackupError, match="damaged"):
        backups.create()
    assert backups.catalog.all() == []


async def test_a_backup_of_a_newer_program_is_not_restored(backups: Backups, database: Path, tmp_path: Path):
    newer = all_migrations()[-1].version + 1
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO session_manager_schema VALUES (?, ?, 0)", (newer, newer))
    backups.create()
    path = tmp_path / "elsewhere" / "sessions.db"
    with pytest.raises(BackupError, match="newer program"):
        of(path, backups.place).restore_if_missing()
    assert not path.exists()
    reject_newer_schema(newer, newer - 1)  # that one is readable


def _sessions(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM session").fetchone()[0])
