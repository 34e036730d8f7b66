"""The backups of a front door: when they are made, how they end, what they report."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from session_manager.aio.retry import Backoff
from session_manager.backup import service as service_module
from session_manager.backup.backups import Backups
from session_manager.backup.catalog import data_of, manifest_of
from session_manager.backup.service import BackupService, Job
from session_manager.domain.errors import Conflict, NotFound, StartupFailure, StorageDenied, StoreUnavailable
from session_manager.settings import Settings
from session_manager.storage.places import Place
from session_manager.wiring.backups import open_service
from tests.backup.conftest import of
from tests.backup.databases import fill
from tests.waiting import until


@asynccontextmanager
async def running(backups: Backups, interval: float = 3600.0, last: float = 20.0) -> AsyncIterator[BackupService]:
    service = BackupService(backups, interval, last)
    loop = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        loop.cancel()
        await asyncio.wait([loop])
        await service.close()


class Held:
    """Stop the next backup in the middle of its copy."""

    def __init__(self, backups: Backups, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        dump = backups.source.dump

        def held(path, progress):
            self.reached.set()
            assert self.go_on.wait(30)
            progress("copy", 1, 2)
            return dump(path, progress)

        monkeypatch.setattr(backups.source, "dump", held)


def count(backups: Backups) -> int:
    return len(backups.catalog.all())


async def test_the_first_backup_is_made_at_once_and_the_last_on_shutdown(backups: Backups):
    async with running(backups) as service:
        await until(lambda: service.stats.newest)
        assert count(backups) == 1
        assert service.stats.age is not None
    assert count(backups) == 2


async def test_the_age_of_the_newest_backup_decides_when_the_next_is_due(backups: Backups):
    made = backups.create()
    async with running(backups, last=0.0) as service:
        await until(lambda: service.stats.newest == made)
        assert service.job is None
    assert count(backups) == 1


async def test_a_backup_of_a_wrong_clock_does_not_prevent_others(backups: Backups):
    made = backups.create()
    wrong = made.model_copy(update={"taken_at": made.taken_at + timedelta(days=3650)})
    backups.place.delete(manifest_of(made.name))
    backups.catalog.put(wrong)
    async with running(backups, last=0.0) as service:
        await until(lambda: count(backups) == 2)
        await until(lambda: service.stats.newest not in (wrong, None))


async def test_a_backup_is_made_in_every_interval(backups: Backups):
    async with running(backups, interval=0.05, last=0.0):
        await until(lambda: count(backups) >= 2)


async def test_a_start_without_a_database_restores_the_newest_backup(
    backups: Backups, elsewhere: Callable[[Backups], Backups]
):
    made = backups.create()
    restored = await BackupService(elsewhere(backups), 3600, 0).restore_if_missing()
    assert restored is not None
    assert restored.manifest == made
    assert await BackupService(backups, 3600, 0).restore_if_missing() is None


@pytest.mark.parametrize("trouble", ["damaged", "denied", "away"])
async def test_a_start_ends_if_there_may_be_data_that_it_cannot_restore(
    backups: Backups, elsewhere: Callable[[Backups], Backups], monkeypatch: pytest.MonkeyPatch, trouble: str
):
    made = backups.create()
    other = elsewhere(backups)
    if trouble == "damaged":
        backups.place.write(data_of(made.name), [b"x"])
    else:
        error = PermissionError(13, "no") if trouble == "denied" else ConnectionResetError()
        monkeypatch.setattr(other.place.fs, "ls", lambda *_, **__: _raise(error))
    with pytest.raises(StoreUnavailable if trouble == "away" else StartupFailure):
        await BackupService(other, 3600, 0).restore_if_missing()
    assert not other.source.holds_data()


def _raise(error: Exception) -> None:
    raise error


async def test_a_failure_is_counted_logged_and_retried(
    backups: Backups, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(service_module, "BACKOFF", Backoff(0.01, 900.0))
    failures = iter([StorageDenied(reason="file:///x: no")] * 2)

    def create_if_due(*arguments):
        error = next(failures, None)
        if error is not None:
            raise error
        return made(*arguments)

    made = backups.create_if_due
    monkeypatch.setattr(backups, "create_if_due", create_if_due)
    async with running(backups, last=0.0) as service:
        await until(lambda: service.stats.newest)
        assert service.stats.failures == 2
    logged = [record for record in caplog.records if getattr(record, "event", "") == "backup.failed"]
    assert len(logged) == 2
    assert "file:///x: no" in logged[0].getMessage()


async def test_a_manual_backup_shows_its_progress_and_its_result(backups: Backups, monkeypatch: pytest.MonkeyPatch):
    held = Held(backups, monkeypatch)
    service = BackupService(backups, 3600, 20)
    job = service.create()
    await asyncio.to_thread(held.reached.wait, 20)
    assert await service.get(job.name) is job
    with pytest.raises(Conflict):
        service.create()
    with pytest.raises(NotFound):
        await service.verify(job.name)
    held.go_on.set()
    await until(lambda: service.job is None)
    assert not isinstance(await service.get(job.name), Job)
    assert (await service.verify(job.name)).name == job.name
    await service.close()


async def test_the_reason_of_a_failure_is_remembered(backups: Backups, database: Path):
    service = BackupService(backups, 3600, 0)
    database.write_bytes(b"no database" * 1000)
    job = service.create()
    await until(lambda: service.job is None)
    found = await service.get(job.name)
    assert isinstance(found, Job)
    assert found.error == "The file is not a database"
    await service.close()


async def test_the_last_backup_is_cut_off_after_its_time(backups: Backups, monkeypatch: pytest.MonkeyPatch):
    backups.create()
    held = Held(backups, monkeypatch)
    monkeypatch.setattr(service_module, "LET_GO", 0.1)
    async with running(backups, last=0.2) as service:
        await until(lambda: service.stats.newest)
    assert held.reached.is_set()
    held.go_on.set()
    await until(lambda: not any(thread.name == "backup" for thread in threading.enumerate()))
    assert count(backups) == 1
    assert not list(Path(backups.source.scratch("")).parent.glob("*.scratch-*"))


async def test_backups_without_a_place_are_off_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    service = open_service(Settings.from_environment(cloud_run_session_db_path=tmp_path / "s.db"))
    await service.run()
    assert service.url is None
    assert [getattr(record, "event", "") for record in caplog.records] == ["backup.off"]
    assert await service.restore_if_missing() is None
    with pytest.raises(Conflict, match="off"):
        service.create()
    await service.close()


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, None),
        ({"storage_bucket": "off", "google_cloud_project": "p"}, None),
        ({"google_cloud_project": "p"}, "gs://p-session-storage"),
        ({"google_cloud_project": "p", "storage_bucket": "mine"}, "gs://mine"),
        ({"storage_bucket": "file:///mnt/backups"}, "file:///mnt/backups"),
    ],
)
async def test_the_place_follows_the_settings(tmp_path: Path, settings: dict[str, str], url: str | None):
    facts: dict[str, Any] = {"storage_emulator_host": "127.0.0.1:1", "data_dir": tmp_path, **settings}
    service = open_service(Settings.from_environment(cloud_run_session_db_path=tmp_path / "s.db", **facts))
    assert service.url == url


async def test_the_two_functions_run_with_and_without_an_event_loop(folder: Place, database: Path, tmp_path: Path):
    from session_manager.backup import backup_session_db_to_gcs, restore_session_db_from_gcs  # noqa: PLC0415

    address = backup_session_db_to_gcs(str(database), folder.url, "project")
    assert address.startswith(f"{folder.url}/session_backups/")
    assert Path(address.removeprefix("file://")).exists()
    path = tmp_path / "elsewhere" / "sessions.db"
    assert await asyncio.to_thread(restore_session_db_from_gcs, str(path), folder.url, None) is True
    assert restore_session_db_from_gcs(path, folder.url) is False
    empty = f"file://{tmp_path}/nothing"
    assert restore_session_db_from_gcs(tmp_path / "third" / "sessions.db", empty) is False


async def test_the_functions_use_the_other_settings_too(
    folder: Place, database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from session_manager.backup import backup_session_db_to_gcs  # noqa: PLC0415

    monkeypatch.setenv("BACKUP_ENCRYPTION_KEYS", "A" * 43 + "=")
    backup_session_db_to_gcs(database, folder.url)
    newest = of(tmp_path / "x" / "s.db", folder).catalog.newest()
    assert newest is not None
    assert newest.encryption == "AES-256-GCM"


async def test_a_backup_blocks_no_writer(backups: Backups, database: Path):
    await asyncio.gather(asyncio.to_thread(backups.create), fill(database, sessions=2, messages=50))
