"""The start is logged with the place of the database, without secrets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.servers.front import front_door, settings_for
from tests.servers.postgres import PASSWORD


async def logged(caplog: pytest.LogCaptureFixture, settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of the log line, and the full answer of /health."""
    caplog.set_level(logging.INFO, "session_manager")
    async with front_door(settings) as front:
        _, health = await front.call("GET", "/health")
    [line] = [record for record in caplog.records if getattr(record, "event", "") == "start.storage"]
    return vars(line), health


async def test_a_file(tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture):
    line, health = await logged(caplog, settings_for(tmp_path, redis_url))
    path = str(tmp_path / "sessions.db")
    assert (line["local_db"], line["backup_bucket"], line["uri"]) == (path, None, f"sqlite:///{path}")
    assert health["session_storage_uri"] == line["uri"]


async def test_postgresql(tmp_path: Path, redis_url: str, postgres_uri: str, caplog: pytest.LogCaptureFixture):
    uri = f"{postgres_uri}?sslmode=disable"
    line, health = await logged(caplog, settings_for(tmp_path, redis_url, session_db_uri=SecretStr(uri)))
    assert line["local_db"] is None
    assert line["uri"] == health["session_storage_uri"]
    assert line["uri"].endswith("?sslmode=disable")
    assert PASSWORD not in str([vars(record) for record in caplog.records])
