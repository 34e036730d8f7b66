"""The data that a new writer begins with, for every combination of disk and bucket."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.litestream import KEPT, Litestream, all_lines, announce, forget_old, line_of
from session_manager.backup.packing import Keys
from session_manager.backup.shipping import Shipper
from session_manager.backup.sqlite import SqliteSource
from session_manager.backup.writer import NO_WRITER, Stamp, Succession, read_stamp, write_stamp
from session_manager.domain.errors import BackupDamaged
from session_manager.domain.times import Micros
from session_manager.leadership.bucket_lease import Record
from session_manager.storage.places import Place, open_place
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from tests.servers.tools import litestream
from tests.waiting import until

FIRST = Record(0, "", 30.0)


def writer(term: int) -> Record:
    return Record(term, f"{term:032x}", 30.0, released=True)


def stamp_of(record: Record) -> Stamp:
    return Stamp(record.term, record.holder)


class Machine:
    """A disk with a database of its own, and the shared bucket."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.path = folder / "sessions.db"
        self.place = place
        self.source = SqliteSource(self.path)
        self.backups = Backups(self.source, place, Keys.parse(""), Retention(100, 100))

    async def begin(self, ours: Record, before: Record, tool: Path | None = None) -> None:
        await Succession(self.backups, self.source, Litestream(tool) if tool else None).begin(ours, before)
        self.backups.term = ours.term

    async def write(self, sessions: int) -> None:
        store = SqliteStore(self.path)
        await store.start()
        for _ in range(sessions):
            await store.create_session(NewSession(str(uuid.uuid4()), "ada", "default", Micros(10**12)))
        await store.close()

    async def ship(self, record: Record) -> None:
        """Ship everything in the file."""
        line = line_of(self.place, record)
        announce(line, record)
        shipper = Shipper(Litestream(litestream()), self.path, line, 0.2)
        await shipper.start()

        async def stored() -> bool:
            return await shipper.flush(1)

        await until(stored)
        assert await shipper.stop()

    def count(self) -> int:
        with closing(sqlite3.connect(self.path)) as database:
            return int(database.execute("SELECT count(*) FROM session").fetchone()[0])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return open_place(f"file://{tmp_path}/bucket")


@pytest.fixture
def one(tmp_path: Path, place: Place) -> Machine:
    return Machine(tmp_path / "one", place)


@pytest.fixture
def two(tmp_path: Path, place: Place) -> Machine:
    return Machine(tmp_path / "two", place)


async def test_a_first_writer_keeps_its_database_and_signs_it(one: Machine) -> None:
    await one.write(3)
    await one.begin(writer(1), FIRST)
    assert one.count() == 3
    assert read_stamp(one.path) == stamp_of(writer(1))


async def test_a_first_writer_without_any_data_begins_empty(one: Machine) -> None:
    await one.begin(writer(1), FIRST)
    assert not one.path.exists()
    assert read_stamp(one.path) == stamp_of(writer(1))


async def test_another_machine_begins_with_the_last_backup(one: Machine, two: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    one.backups.create()
    await two.begin(writer(2), writer(1))
    assert two.count() == 3


async def test_the_machine_of_the_last_writer_keeps_its_file(one: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    one.backups.create()
    await one.write(2)
    await one.begin(writer(2), writer(1))
    assert one.count() == 5


async def test_a_file_that_is_behind_is_put_aside(one: Machine, two: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    one.backups.create()
    await two.begin(writer(2), writer(1))
    await two.write(4)
    two.backups.create()
    await one.write(1)  # changes that a stopped writer had not stored yet
    await one.begin(writer(3), writer(2))
    assert one.count() == 7
    [aside] = one.path.parent.glob("sessions.db.before-*Z")
    with closing(sqlite3.connect(aside)) as database:
        assert database.execute("SELECT count(*) FROM session").fetchone() == (4,)


async def test_a_file_stays_if_later_writers_stored_nothing(one: Machine, two: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    one.backups.create()
    await one.write(2)
    await two.begin(writer(2), writer(1))  # and vanished before it stored anything
    await one.begin(writer(3), writer(2))
    assert one.count() == 5


async def test_the_later_writer_wins_whatever_the_clocks_say(
    one: Machine, two: Machine, tmp_path: Path, place: Place
) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    await two.begin(writer(2), writer(1))
    await two.write(7)
    two.backups.create()
    late = one.backups.create()  # by a stopped writer that does not know it was replaced
    assert late.term == 1
    three = Machine(tmp_path / "three", place)
    await three.begin(writer(3), writer(2))
    assert three.count() == 7


async def test_changes_shipped_after_the_last_backup_are_restored(one: Machine, two: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    manifest = one.backups.create()
    await one.write(2)
    await one.ship(writer(1))
    _age(one, manifest.name)
    await two.begin(writer(2), writer(1), litestream())
    assert two.count() == 5


async def test_a_backup_after_the_last_shipped_change_is_restored(one: Machine, two: Machine) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    await one.ship(writer(1))
    await one.write(2)
    manifest = one.backups.create()
    _age(one, manifest.name, timedelta(seconds=-5))
    await two.begin(writer(2), writer(1), litestream())
    assert two.count() == 5


def _age(machine: Machine, name: str, age: timedelta = timedelta(seconds=5)) -> None:
    """Make a backup that much older."""
    manifest = machine.backups.catalog.get(name)
    machine.backups.catalog.put(manifest.model_copy(update={"taken_at": datetime.now(UTC) - age}))


async def test_changes_shipped_after_the_lease_was_lost_are_ignored(
    one: Machine, two: Machine, tmp_path: Path, place: Place
) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    await one.ship(writer(1))
    await two.begin(writer(2), writer(1), litestream())
    await two.write(4)
    await two.ship(writer(2))
    await one.write(9)
    await one.ship(writer(1))
    three = Machine(tmp_path / "three", place)
    await three.begin(writer(3), writer(2), litestream())
    assert three.count() == 7


async def test_damaged_changes_are_logged_and_the_backup_is_restored(
    one: Machine, two: Machine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    manifest = one.backups.create()
    await one.ship(writer(1))
    _age(one, manifest.name)
    _damage(tmp_path)
    await two.begin(writer(2), writer(1), litestream())
    assert two.count() == 3
    assert [each.__dict__["event"] for each in caplog.records if each.levelname == "ERROR"] == ["writer.damaged"]


async def test_a_start_ends_if_no_stored_data_is_whole(one: Machine, two: Machine, tmp_path: Path) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    await one.ship(writer(1))
    _damage(tmp_path)
    with pytest.raises(BackupDamaged):
        await two.begin(writer(2), writer(1), litestream())
    assert not two.path.exists()
    assert read_stamp(two.path) == NO_WRITER


def _damage(folder: Path) -> None:
    for file in (folder / "bucket").rglob("*.ltx"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)


async def test_shipped_changes_without_the_tool_are_logged_and_ignored(
    one: Machine, two: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    await one.begin(writer(1), FIRST)
    await one.write(3)
    one.backups.create()
    announce(line_of(one.place, writer(1)), writer(1))
    await two.begin(writer(2), writer(1), None)
    assert two.count() == 3
    assert "writer.shipped_ignored" in [each.__dict__.get("event") for each in caplog.records]


def test_only_the_newest_lines_are_kept(place: Place, tmp_path: Path) -> None:
    for term in range(1, KEPT + 3):
        line = line_of(place, writer(term))
        announce(line, writer(term))
        place.write(f"{line.name}/ltx/0/1.ltx", [b"x"])
    assert forget_old(place) == 2
    assert [line.name for line in all_lines(place)] == [line_of(place, writer(term)).name for term in (5, 4, 3)]
    assert sum(file.is_file() for file in (tmp_path / "bucket").rglob("*")) == 2 * KEPT
    assert forget_old(place) == 0


def test_a_stamp_that_cannot_be_read_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    assert read_stamp(path) == NO_WRITER
    write_stamp(path, Stamp(7, "abc"))
    assert read_stamp(path) == Stamp(7, "abc")
    file = tmp_path / "sessions.db.writer"
    assert file.stat().st_mode & 0o777 == 0o600
    os.truncate(file, 5)
    assert read_stamp(path) == NO_WRITER
