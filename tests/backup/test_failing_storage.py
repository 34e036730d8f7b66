"""A bucket that denies access, is missing, fails or is silent, and a disk without room."""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import FOLDER
from session_manager.domain.errors import BackupError, StorageDenied, StorageError, StorageMissing, StorageUnavailable
from session_manager.storage.places import Place, open_place
from tests.backup.conftest import of
from tests.backup.databases import fill, texts
from tests.backup.proxy import SILENCE, Proxy, proxy
from tests.servers.gcs import GcsServer

PATIENCE = 0.3


@pytest.fixture
async def between(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy in front of the bucket. gcsfs does not pause between its tries."""
    from gcsfs import retry  # noqa: PLC0415

    monkeypatch.setattr(retry, "random", SimpleNamespace(random=lambda: -1e9))
    async with proxy(gcs.host) as served:
        yield served


@pytest.fixture
def bucket(gcs: GcsServer, between: Proxy) -> Place:
    return open_place(gcs.bucket(), project="project", endpoint=between.host, timeout=PATIENCE)


def is_upload(request: Any) -> bool:
    return request.path.startswith("/upload/")


async def create(backups: Backups) -> Any:
    return await asyncio.to_thread(backups.create)


async def names(backups: Backups) -> list[str]:
    return [each.name for each in await asyncio.to_thread(backups.catalog.all)]


@pytest.mark.parametrize("at", ["everything", "uploads"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(401, StorageDenied), (403, StorageDenied), (503, StorageUnavailable), (500, StorageUnavailable),
     (429, StorageUnavailable), (SILENCE, StorageUnavailable)],
)  # fmt: skip
async def test_a_bucket_that_rejects_requests(
    between: Proxy, bucket: Place, database: Path, at: str, status: int, error: type[StorageError]
):
    backups = of(database, bucket)
    await create(backups)
    before = texts(database)
    between.rule = lambda request: status if at == "everything" or is_upload(request) else None
    with pytest.raises(error) as raised:
        await create(backups)
    assert "127.0.0.1" not in raised.value.detail
    assert bucket.url in raised.value.reason
    assert texts(database) == before
    between.rule = lambda request: None
    assert len(await names(backups)) == 1
    await create(backups)


async def test_a_bucket_that_may_not_be_created(between: Proxy, bucket: Place, database: Path):
    between.rule = lambda request: 403 if request.method == "POST" and request.path.rstrip("/").endswith("/b") else None
    with pytest.raises(StorageDenied):
        await create(of(database, bucket))


async def test_a_bucket_that_fails_in_the_middle(between: Proxy, bucket: Place, database: Path):
    backups = of(database, bucket)
    await create(backups)
    between.rule = lambda request: 404 if is_upload(request) else None
    with pytest.raises(StorageMissing):
        await create(backups)


async def test_a_short_failure_is_retried(between: Proxy, bucket: Place, database: Path):
    backups = of(database, bucket)
    await create(backups)
    failures = iter([503, 502, 500])
    between.rule = lambda request: next(failures, None)
    assert (await create(backups)).name in await names(backups)


async def test_a_backup_that_may_not_be_deleted_is_kept_and_reported(between: Proxy, bucket: Place, database: Path):
    backups = of(database, bucket, count=1, days=0.0)
    kept = await create(backups)
    await create(backups)
    between.rule = lambda request: 403 if request.method == "DELETE" else None
    pruned = await asyncio.to_thread(backups.prune)
    assert (pruned.kept, pruned.backups) == ([kept.name], [])
    assert len(await names(backups)) == 2


async def test_backups_need_only_the_documented_rights(between: Proxy, bucket: Place, database: Path, tmp_path: Path):
    """Backups use objects.create, get, list, delete, buckets.create once, and nothing else."""
    backups = of(database, bucket, count=1, days=0.0)
    made = await create(backups)
    await create(backups)
    await asyncio.to_thread(backups.prune)
    other = of(tmp_path / "elsewhere" / "sessions.db", bucket)
    await asyncio.to_thread(other.restore_if_missing)
    await asyncio.to_thread(backups.verify, (await names(backups))[0])
    assert made.name not in await names(backups)
    kinds = {_right(*asked.split(" ", 1)) for asked in between.asked}
    assert kinds == {"buckets.create", "objects.create", "objects.get", "objects.list", "objects.delete"}


def _right(method: str, path: str) -> str:
    path = path.partition("?")[0]
    if path.startswith("/upload/"):
        return "objects.create"
    parts = path.removeprefix("/storage/v1/").removeprefix("/download/storage/v1/").strip("/").split("/")
    if parts == ["b"]:
        return "buckets.create" if method == "POST" else "buckets.list"
    if len(parts) == 3:
        return "objects.list" if method == "GET" else "?"
    return {"GET": "objects.get", "DELETE": "objects.delete"}.get(method, "?") if len(parts) > 3 else "buckets.get"


FULL = """
import resource, signal, sys
from pathlib import Path
from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.packing import Keys
from session_manager.storage.places import open_place
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import BackupError

path, place, verb, limit = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
backups = Backups(SqliteSource(Path(path)), open_place(place), Keys(), Retention(8, 14))
try:
    getattr(backups, verb)()
except BackupError as error:
    print(error.detail, "|", error.reason)
"""


def limited(path: Path, place: Place, verb: str, limit: int) -> str:
    """Return the error on a disk where no file can grow beyond ``limit`` bytes."""
    command = [sys.executable, "-c", FULL, str(path), place.url, verb, str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_a_full_disk_is_reported_and_changes_nothing(folder: Place, database: Path, tmp_path: Path):
    await fill(database, sessions=1, messages=300, text="long " * 2000)
    before = texts(database)
    size = database.stat().st_size
    assert size > 2_000_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    backups = of(database, folder)
    assert limited(database, folder, "create", size // 2)
    assert folder.entries(FOLDER) == []
    backups.create()
    path = tmp_path / "elsewhere" / "sessions.db"
    assert "no room" in limited(path, folder, "restore_if_missing", size // 2)
    assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db.backup-lock"]
    assert texts(database) == before


async def test_a_copy_without_room_on_the_disk_is_not_begun(
    backups: Backups, database: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(database)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(BackupError, match="no room"):
        backups.create()
