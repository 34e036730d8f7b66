"""Real processes that get SIGKILL in the middle of a copy, an upload, a download and a restore."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import FOLDER
from session_manager.storage.places import Place, open_place
from tests.backup.conftest import of
from tests.backup.databases import add_session, fill, say, texts
from tests.backup.proxy import SILENCE, Proxy, proxy
from tests.servers.gcs import GcsServer
from tests.store.databases import opened
from tests.waiting import until

WORK = """
import sys
from session_manager.backup import backups
path, place, project, verb = sys.argv[1:]
print(getattr(backups, verb)(path, place, project), flush=True)
"""
FORCE = """
import sys
from pathlib import Path
from session_manager.backup.backups import open_backups
from session_manager.settings import Settings
path, place, project, _ = sys.argv[1:]
open_backups(Settings.from_environment(storage_bucket=place), Path(path)).restore(force=True)
"""
BACKUP, RESTORE = "backup_session_db_to_gcs", "restore_session_db_from_gcs"


@asynccontextmanager
async def started(path: Path, place: Place, verb: str, code: str = WORK, host: str = "") -> AsyncIterator[Process]:
    environment = {**os.environ, "BACKUP_TIMEOUT": "30", **({"STORAGE_EMULATOR_HOST": host} if host else {})}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        str(path),
        place.url,
        "project",
        verb,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def large(tmp_path: Path) -> Path:
    """A database that takes several steps to copy and several requests to upload: its texts cannot be compressed."""
    path = tmp_path / "sessions" / "sessions.db"
    async with opened(path) as store:
        session = await add_session(store)
        for _ in range(24):
            await say(store, session, os.urandom(400_000).hex())
    return path


@pytest.fixture
async def between(gcs: GcsServer) -> AsyncIterator[Proxy]:
    async with proxy(gcs.host) as served:
        yield served


@pytest.fixture
def bucket(gcs: GcsServer, between: Proxy) -> Place:
    return open_place(gcs.bucket(), project="project", endpoint=between.host)


async def untouched(backups: Backups, before: list[str], database: Path) -> None:
    """The database is unchanged, there is no backup, and the next backup succeeds."""
    assert texts(database) == before
    assert await asyncio.to_thread(backups.catalog.all) == []
    made = await asyncio.to_thread(backups.create)
    await asyncio.to_thread(backups.verify, made.name)
    assert [file.name for file in database.parent.glob("*.scratch-*")] == []


async def test_a_kill_in_the_middle_of_the_copy(large: Path, folder: Place):
    before = texts(large)

    def copied() -> int:
        return sum(
            file.stat().st_size for file in large.parent.glob("*.scratch-*") if not file.name.endswith("journal")
        )

    async with started(large, folder, BACKUP) as process:
        await until(lambda: copied() > 0 or process.returncode is not None)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    assert list(large.parent.glob("*.scratch-*"))
    await untouched(of(large, folder), before, large)


@pytest.mark.parametrize("request_number", [1, 2])
async def test_a_kill_in_the_middle_of_an_upload(large: Path, between: Proxy, bucket: Place, request_number: int):
    """The first request opens the upload, and a later one sends a block."""
    before = texts(large)
    uploads = iter(range(1, 100))
    between.rule = lambda request: (
        SILENCE if request.path.startswith("/upload/") and next(uploads) == request_number else None
    )
    async with started(large, bucket, BACKUP, host=between.host) as process:
        await asyncio.wait_for(between.held.wait(), 30)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    between.rule = lambda request: None
    await untouched(of(large, bucket), before, large)


async def test_a_kill_between_the_data_and_its_manifest(large: Path, between: Proxy, bucket: Place):
    """The data is complete, but it is not a backup."""
    before = texts(large)
    between.rule = lambda request: SILENCE if request.path.startswith("/upload/") and _is_manifest(request) else None
    async with started(large, bucket, BACKUP, host=between.host) as process:
        await asyncio.wait_for(between.held.wait(), 30)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    between.rule = lambda request: None
    entries = await asyncio.to_thread(bucket.entries, FOLDER)
    assert [entry.name.endswith(".zst") for entry in entries] == [True]
    await untouched(of(large, bucket), before, large)


def _is_manifest(request: Any) -> bool:
    return str(request.query.get("name")).endswith(".json")


async def test_a_kill_in_the_middle_of_a_download(large: Path, between: Proxy, bucket: Place, tmp_path: Path):
    backups = of(large, bucket)
    await asyncio.to_thread(backups.create)
    reads = iter(range(1, 100))
    between.rule = lambda request: SILENCE if _is_block(request) and next(reads) == 2 else None
    path = tmp_path / "elsewhere" / "sessions.db"
    async with started(path, bucket, RESTORE, host=between.host) as process:
        await asyncio.wait_for(between.held.wait(), 30)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
    between.rule = lambda request: None
    assert not path.exists()
    assert list(path.parent.glob("*.scratch-*"))
    assert await asyncio.to_thread(of(path, bucket).restore_if_missing)
    assert texts(path) == texts(large)
    assert list(path.parent.glob("*.scratch-*")) == []


def _is_block(request: Any) -> bool:
    return request.path.endswith(".zst") and "Range" in request.headers


async def _copying(path: Path) -> None:
    await until(lambda: list(path.parent.glob("*.scratch-*")), 30)


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_at_any_moment_of_a_restore(large: Path, folder: Place, tmp_path: Path):
    """After each kill the old or the new database is there, intact, and the old one is kept beside the new one."""
    await asyncio.to_thread(of(large, folder).create)
    new = texts(large)
    outcomes = set()
    for number, pause in enumerate(pause / 100 for pause in range(0, 120, 6)):
        path = tmp_path / f"live-{number}" / "sessions.db"
        await fill(path, sessions=1, messages=10, text="old")
        old = texts(path)
        async with started(path, folder, "", FORCE) as process:
            await _copying(path)
            try:
                await asyncio.wait_for(process.wait(), pause)
            except TimeoutError:
                process.kill()
                await process.wait()
        found = texts(path)
        assert found in (old, new)
        outcomes.add(found == new)
        if found == new:
            [aside] = path.parent.glob("sessions.db.before-*")
            assert texts(aside) == old
    assert outcomes == {False, True}
