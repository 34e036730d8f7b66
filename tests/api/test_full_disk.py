"""A disk that is full or read-only: shown, survived, and over as soon as there is room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from session_manager.activity.server import real_redis
from session_manager.serving.shared_redis import SharedRedis
from session_manager.storage.files import trouble_of
from session_manager.wiring import health
from tests.api.conftest import CLASSES
from tests.full_disk import Disk, needs_root, small_disk
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.store.conftest import postgres, postgres_uri
from tests.waiting import until

__all__ = ["postgres", "postgres_uri"]

FULL = "The disk of the database is full; nothing was stored"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
async def on_disk(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FrontDoor]:
    """A front door that keeps everything on the small disk, its own Redis too."""
    monkeypatch.setattr(health, "CHECK_EVERY", 0.1)
    redis = SharedRedis(disk.folder / "redis")
    await redis.start()
    facts: dict[str, Any] = {
        "data_dir": disk.folder,
        "cloud_run_session_db_path": disk.folder / "sessions.db",
        "session_classes": CLASSES,
        "idle_timeout": 1.0,
    }
    try:
        async with front_door(settings_for(tmp_path, redis.url, **facts)) as front:
            yield front
    finally:
        await redis.stop()


def logged(caplog: pytest.LogCaptureFixture, event: str, part: str) -> int:
    return sum(getattr(each, "event", "") == event and getattr(each, "part", "") == part for each in caplog.records)


def has(caplog: pytest.LogCaptureFixture, event: str) -> bool:
    return any(getattr(each, "event", "") == event for each in caplog.records)


@needs_root
async def test_a_full_disk_is_shown_and_survived(on_disk: FrontDoor, disk: Disk, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "session_manager")
    session = await on_disk.create()
    assert (await on_disk.chat(session, "Hello"))[0] == 200
    disk.fill()

    status, answer = await on_disk.call("POST", "/session/create", {"user_id": "ada"})
    assert (status, answer["detail"]) == (503, FULL)
    status, answer = await on_disk.chat(session, "x" * 100_000)
    assert (status, answer["detail"]) == (503, FULL)
    status, answer = await on_disk.call("GET", "/readyz")
    assert (status, answer["detail"]) == (503, "The folder of the database is on a full disk; nothing was stored")
    status, answer = await on_disk.call("GET", "/health")
    assert (status, answer["database"], answer["data_dir"]) == (503, "unhealthy", "unhealthy")
    assert "DATA_DIR is on a full disk" in answer["detail"]
    async with on_disk.client.get(f"{on_disk.url}/metrics", headers={"Accept": "text/plain"}) as metrics:
        assert 'session_manager_healthy{part="database"} 0.0' in await metrics.text()

    await on_disk.until_status(session, "sleeping")
    await on_disk.call("POST", f"/session/{session}/wake")
    async with asyncio.timeout(10):
        await until(lambda: logged(caplog, "health.lost", "database"))
        await until(lambda: logged(caplog, "health.lost", "data_dir"))

    disk.free()
    async with asyncio.timeout(10):
        while (await on_disk.call("GET", "/readyz"))[0] != 200:
            await asyncio.sleep(0.05)
        await until(lambda: logged(caplog, "health.back", "database"))
    status, answer = await on_disk.chat(session, "again")
    assert (status, answer["pod_response"]["reply"]) == (200, "again")
    assert logged(caplog, "health.lost", "database") == 1
    assert "Traceback" not in caplog.text


@needs_root
@pytest.mark.skipif(real_redis() is None, reason="the embedded Redis has no append-only file")
async def test_the_local_redis_goes_on_without_its_file(disk: Disk, caplog: pytest.LogCaptureFixture):
    redis = SharedRedis(disk.folder / "redis")
    await redis.start()
    try:
        caplog.set_level(logging.INFO, "session_manager")
        client = Redis.from_url(redis.url)
        disk.fill()
        async with client, asyncio.timeout(10):
            with pytest.raises(ResponseError, match="MISCONF"):
                while True:
                    await client.set("key", "x" * 10_000)
            await until(lambda: has(caplog, "redis.not_saved"))
            await client.set("key", "while the disk is full")
            disk.free()
            await until(lambda: has(caplog, "redis.saved"))
            while (await client.info("persistence"))["aof_rewrite_in_progress"]:
                await asyncio.sleep(0.01)
            assert (await client.config_get("appendonly"))["appendonly"] == "yes"
    finally:
        await redis.stop()


@needs_root
async def test_pods_run_while_the_disk_of_their_homes_is_full(disk: Disk, start: Any):
    front: FrontDoor = await start(data_dir=disk.folder)
    disk.fill()
    status, answer = await front.call("GET", "/readyz")
    assert (status, answer["detail"]) == (503, "DATA_DIR is on a full disk")
    _, answer = await front.call("GET", "/health")
    assert (answer["database"], answer["data_dir"], answer["redis"]) == ("healthy", "unhealthy", "healthy")
    session = await front.create()
    status, answer = await front.chat(session, "Hello")
    assert (status, answer.get("pod_response", {}).get("reply")) == (200, "Hello"), answer
    disk.free()
    assert (await front.call("GET", "/readyz"))[0] == 200


@needs_root
def test_a_read_only_disk_and_a_folder_that_is_gone(disk: Disk):
    assert trouble_of(disk.folder) is None
    disk.remount("ro")
    assert trouble_of(disk.folder) == "is on a read-only file system"
    assert trouble_of(disk.folder / "gone") == "cannot be read (No such file or directory)"


async def test_a_full_disk_of_postgresql(postgres_uri: str, start: Any):
    front: FrontDoor = await start(session_db_uri=postgres_uri)
    session = await front.create()
    database = await asyncpg.connect(postgres_uri)
    try:
        await database.execute(
            """
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON session FOR EACH ROW EXECUTE FUNCTION full_disk();
            CREATE TRIGGER full_disk BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION full_disk();
            CREATE TRIGGER full_disk BEFORE INSERT ON installation FOR EACH ROW EXECUTE FUNCTION full_disk();
            """
        )
        assert (await front.call("GET", "/readyz"))[0] == 200  # nobody has tried to write yet
        status, answer = await front.chat(session, "Hello")
        assert (status, answer["detail"]) == (503, FULL)
        assert await front.call("GET", "/readyz") == (503, {"status": "not ready", "detail": FULL})
        assert (await front.call("GET", "/health"))[1]["database"] == "unhealthy"
        for table in ("session", "message", "installation"):
            await database.execute(f"DROP TRIGGER full_disk ON {table}")
        assert (await front.call("GET", "/readyz"))[0] == 200
        assert await database.fetchval("SELECT count(*) FROM installation WHERE name LIKE '%probe%'") == 0
        assert (await front.chat(session, "Hello"))[0] == 200
    finally:
        await database.close()
