"""A front door that cannot run its pods as processes yet."""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process.folders import OwnedByAnother
from session_manager.wiring.hosts import process
from session_manager.wiring.services import Services
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.waiting import until

Failing = Callable[[Exception | None], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Make each start of the runtime raise an error, or succeed again."""
    monkeypatch.setattr(process, "OWNER_RETRY", 0.01)
    monkeypatch.setattr(process, "FAILURE_RETRY", Backoff(0.1, 0.1))
    start = ProcessRuntime.start
    now: list[Exception | None] = [None]

    async def try_start(runtime: ProcessRuntime) -> None:
        if now[0] is not None:
            raise now[0]
        await start(runtime)

    monkeypatch.setattr(ProcessRuntime, "start", try_start)
    return lambda error: now.__setitem__(0, error)


@pytest.fixture
async def front(failing: Failing, tmp_path: Path, redis_url: str) -> AsyncIterator[FrontDoor]:
    failing(OwnedByAnother("owned by another process"))
    async with front_door(settings_for(tmp_path, redis_url)) as front:
        yield front


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.__dict__.get("event") == "pods.cannot_start"]


@pytest.mark.parametrize(
    "error", [StartupFailure("Cannot write: Read-only file system"), OSError(errno.EROFS, "Read-only file system")]
)
async def test_the_reason_is_logged_and_shown_in_the_waiting_sessions(
    failing: Failing, front: FrontDoor, caplog: pytest.LogCaptureFixture, error: Exception
):
    session = await front.create()
    await front.call("POST", f"/session/{session}/wake")
    assert (await front.status(session), logged(caplog)) == ("waking", [])
    failing(error)
    await front.until_status(session, "failed")
    _, found = await front.call("GET", f"/session/{session}")
    assert "PodsUnavailable" in found["reason"]
    assert "Read-only file system" in found["reason"]
    assert "Read-only file system" in logged(caplog)[0]
    failing(None)
    status, body = await front.chat(session, "hello")
    assert (status, body["status"]) == (200, "processed")


async def test_waiting_for_another_front_door_is_silent(
    failing: Failing, front: FrontDoor, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    failing(None)
    events: Any = lambda: [record.__dict__.get("event") for record in caplog.records]  # noqa: E731
    await until(lambda: "pods.owned" in events())
    assert logged(caplog) == []


async def test_a_data_folder_that_cannot_be_written_to_ends_the_start_also_without_redis(tmp_path: Path):
    (tmp_path / "machine").mkdir()
    services = Services(settings_for(tmp_path, "redis://127.0.0.1:1/0"))
    with pytest.raises(StartupFailure, match="machine: Is a directory"):
        await services.start()
    await services.close()
