"""Making, listing, verifying and pruning backups."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import FOLDER, LEFTOVER, Manifest, Retention, data_of, manifest_of, new_name
from session_manager.domain.errors import BackupDamaged, BackupError, Conflict, NotFound
from session_manager.storage.places import Place
from tests.backup.conftest import of
from tests.backup.databases import add_session, say, texts
from tests.store.databases import opened

KEY, NEW_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))


def stored(place: Place) -> list[str]:
    return sorted(entry.name for entry in place.entries(FOLDER))


def alter(place: Place, name: str, change: Callable[[bytes], bytes]) -> None:
    data = b"".join(place.read(name))
    place.delete(name)
    place.write(name, [change(data)])


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
async def test_a_backup_describes_itself_and_restores_the_same_database(
    place: Place, database: Path, tmp_path: Path, key: str
):
    before = datetime.now(UTC)
    made = of(database, place, key).create()
    assert made.rows["session"] == 3
    assert made.rows["message"] == 15
    assert before <= made.taken_at <= datetime.now(UTC)
    assert stored(place) == [manifest_of(made.name), data_of(made.name)]
    assert (made.encryption is not None) == bool(key)
    other = of(tmp_path / "elsewhere" / "sessions.db", place, key)
    assert other.catalog.all() == [made]
    assert other.verify(made.name) == made
    restored = other.restore_if_missing()
    assert restored is not None
    assert restored.aside is None
    assert texts(tmp_path / "elsewhere" / "sessions.db") == texts(database)
    assert (tmp_path / "elsewhere" / "sessions.db").stat().st_mode & 0o777 == 0o600


async def test_a_backup_leaves_no_temporary_files(backups: Backups, database: Path):
    backups.verify(backups.create().name)
    assert sorted(file.name for file in database.parent.iterdir()) == ["sessions.db", "sessions.db.backup-lock"]


@pytest.mark.timeout(180)
async def test_ten_thousand_appends_while_backups_run(place: Place, database: Path, tmp_path: Path):
    """Every backup is intact and has everything that was acknowledged before it was taken."""
    acknowledged: list[tuple[datetime, str]] = []

    async def talk(store, number: int) -> None:
        session = await add_session(store)
        for turn in range(100):
            text = f"{number}/{turn}"
            await say(store, session, text)
            acknowledged.append((datetime.now(UTC), text))

    async def back_up(backups: Backups, done: asyncio.Event) -> list[Manifest]:
        made = []
        while not done.is_set():
            made.append(await asyncio.to_thread(backups.create))
        return made

    done = asyncio.Event()
    backups = of(database, place)
    async with opened(database) as store:
        backing_up = asyncio.create_task(back_up(backups, done))
        await asyncio.gather(*(talk(store, number) for number in range(100)))
        done.set()
        made = await backing_up
    assert len(acknowledged) == 10_000
    assert len(made) >= 2
    for manifest in (made[0], made[len(made) // 2], made[-1]):
        path = tmp_path / manifest.name / "sessions.db"
        of(path, place).restore(manifest.name)
        found = set(texts(path))
        assert {text for at, text in acknowledged if at < manifest.taken_at} <= found
        assert len(found) == manifest.rows["message"] - 10  # the three sessions from before have the same five texts
        for number in range(100):  # no later message of a session without the earlier ones
            said = sorted(int(text.partition("/")[2]) for text in found if text.startswith(f"{number}/"))
            assert said == list(range(len(said)))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


ALTERED: dict[str, Callable[[bytes], bytes]] = {
    "a bit": flip,
    "cut": lambda data: data[:-1],
    "emptied": lambda data: b"",
    "longer": lambda data: data + b"x",
    "another of its size": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("key", ["", KEY], ids=["plain", "encrypted"])
@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
async def test_an_altered_or_cut_off_backup_is_not_restored(
    folder: Place, database: Path, tmp_path: Path, key: str, change: Callable[[bytes], bytes]
):
    backups = of(database, folder, key)
    made = backups.create()
    before = texts(database)
    alter(folder, data_of(made.name), change)
    with pytest.raises(BackupDamaged):
        backups.verify(made.name)
    with pytest.raises(BackupDamaged):
        backups.restore(made.name, force=True)
    assert texts(database) == before
    elsewhere = of(tmp_path / "elsewhere" / "sessions.db", folder, key)
    with pytest.raises(BackupDamaged):
        elsewhere.restore_if_missing()
    assert not elsewhere.source.holds_data()


async def test_a_manifest_with_other_numbers_of_rows_is_rejected(backups: Backups, folder: Place):
    made = backups.create()

    def promise(data: bytes) -> bytes:
        facts = json.loads(data)
        facts["rows"]["message"] += 1
        return json.dumps(facts).encode()

    alter(folder, manifest_of(made.name), promise)
    with pytest.raises(BackupDamaged, match="message of the backup has 15 rows instead of 16"):
        backups.verify(made.name)


async def test_a_damaged_backup_is_skipped_for_an_older_good_one(
    backups: Backups, folder: Place, elsewhere: Callable[[Backups], Backups]
):
    good = backups.create()
    alter(folder, data_of(backups.create().name), flip)
    alter(folder, manifest_of(backups.create().name), lambda data: data[:-40])
    restored = elsewhere(backups).restore_if_missing()
    assert restored is not None
    assert restored.manifest == good


async def test_data_without_a_manifest_is_not_a_backup(backups: Backups, folder: Place, elsewhere):
    made = backups.create()
    folder.delete(manifest_of(made.name))
    assert backups.catalog.all() == []
    assert elsewhere(backups).restore_if_missing() is None
    with pytest.raises(NotFound):
        backups.verify(made.name)


@pytest.mark.parametrize(
    "name",
    ["unknown", "../../etc/passwd", new_name(datetime(2026, 1, 31, tzinfo=UTC))],
    ids=["unknown", "path", "name"],
)
async def test_a_backup_that_does_not_exist_is_not_found(backups: Backups, name: str):
    with pytest.raises(NotFound):
        backups.verify(name)


async def test_a_backup_needs_its_own_key_and_not_a_later_one(folder: Place, database: Path, tmp_path: Path):
    plain = of(database, folder).create()
    with_key = of(tmp_path / "elsewhere" / "sessions.db", folder, KEY)
    with pytest.raises(BackupDamaged, match="None of the backups is authenticated"):
        with_key.restore_if_missing()
    sealed = of(database, folder, KEY).create()
    with pytest.raises(BackupError, match="encrypted with the key"):
        of(tmp_path / "other" / "sessions.db", folder, NEW_KEY).restore_if_missing()
    rotated = of(tmp_path / "other" / "sessions.db", folder, f"{NEW_KEY},{KEY}").restore_if_missing()
    assert rotated is not None
    assert rotated.manifest == sealed
    with pytest.raises(BackupDamaged, match="--accept-unauthenticated"):
        with_key.restore(plain.name)
    assert with_key.restore(plain.name, accept_unauthenticated=True).manifest == plain


async def test_only_one_backup_runs_at_a_time(backups: Backups):
    with backups.source.alone():
        for work in (backups.create, lambda: backups.restore(force=True), lambda: backups.create_if_due(1.0)):
            with pytest.raises(Conflict):
                work()
    backups.create()


async def test_several_front_doors_make_one_backup_per_interval(backups: Backups):
    first = backups.create_if_due(3600)
    assert backups.create_if_due(3600) == first
    assert backups.create_if_due(0.0) != first


async def test_backups_that_are_neither_new_nor_young_are_pruned(folder: Place, database: Path):
    backups = of(database, folder, count=2, days=1.0)
    made = [backups.create() for _ in range(4)][::-1]
    assert sorted(each.name for each in backups.catalog.all()) == sorted(each.name for each in made)
    newest = backups.catalog.all()
    assert backups.prune().backups == []
    later = datetime.now(UTC) + timedelta(days=2)
    assert backups.prune(later, dry_run=True).backups == [each.name for each in newest[2:]]
    assert len(backups.catalog.all()) == 4
    assert backups.prune(later).backups == [each.name for each in newest[2:]]
    assert backups.catalog.all() == newest[:2]
    assert len(stored(folder)) == 4


async def test_each_manifest_is_fetched_once(backups: Backups, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        await asyncio.to_thread(backups.create)
    fetched: list[str] = []
    get = backups.catalog._fetch

    def counted(name: str) -> Manifest:
        fetched.append(name)
        return get(name)

    monkeypatch.setattr(backups.catalog, "_fetch", counted)
    first = backups.catalog.all()
    assert backups.catalog.all() == first
    assert sorted(fetched) == sorted(set(fetched))


async def test_the_newest_backup_is_the_last_one_of_the_latest_term(backups: Backups, folder: Place, elsewhere):
    """The clock of the previous writer was an hour ahead, so its backup has the later time and name."""
    backups.term = 2
    made = backups.create()
    ahead = made.taken_at + timedelta(hours=1)
    before = made.model_copy(update={"name": new_name(ahead), "taken_at": ahead, "term": 1})
    folder.write(data_of(before.name), folder.read(data_of(made.name)))
    backups.catalog.put(before)
    assert backups.catalog.all() == [made, before]
    assert backups.catalog.newest() == made
    assert backups.chosen(None) == made
    assert elsewhere(backups).restore().manifest == made
    backups.term = 0
    assert backups.create().term == 2, "a backup without a lease joins the latest term"
    retention = Retention(count=2, days=0)
    assert backups.catalog.prune(retention, ahead + timedelta(hours=1)).backups == [before.name]


async def test_leftovers_of_killed_uploads_are_pruned_after_a_day_but_never_foreign_files(
    backups: Backups, folder: Place
):
    made = backups.create()
    old = data_of(new_name(datetime.now(UTC)))
    young = data_of(new_name(datetime.now(UTC)))
    part = f"{FOLDER}/.{made.name}.zst.1234.part"
    theirs = f"{FOLDER}/notes.txt"
    for name in (old, young, part, theirs):
        folder.write(name, [b"x"])
    long_ago = datetime.now(UTC).timestamp() - LEFTOVER - 60
    for name in (old, part, theirs, data_of(made.name)):
        os.utime(folder.path(name), (long_ago, long_ago))
    assert sorted(backups.prune().leftovers) == sorted([old, part])
    assert stored(folder) == sorted([young, theirs, data_of(made.name), manifest_of(made.name)])
