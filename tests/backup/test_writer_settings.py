"""Settings with and without one writer, and settings that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from session_manager.backup.litestream import INSTALL, VERSION
from session_manager.backup.writer import OneWriter
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.wiring.backups import open_service, open_writer


def opened(tmp_path: Path, **given: Any) -> OneWriter | None:
    facts: dict[str, Any] = {
        "data_dir": tmp_path,
        "cloud_run_session_db_path": tmp_path / "sessions.db",
        "storage_bucket": f"file://{tmp_path}/bucket",
    }
    settings = Settings.from_environment(**{**facts, **given})
    return open_writer(settings, open_service(settings))


async def test_sqlite_with_a_bucket_has_one_writer(tmp_path: Path) -> None:
    writer = opened(tmp_path)
    assert writer is not None
    assert writer.lag is None
    await writer.leadership.close()


@pytest.mark.parametrize(
    "given",
    [
        {"storage_bucket": "off"},
        {"storage_bucket": None},
        {"writer_lease": 0},
        {"session_db_uri": "postgresql://u:p@127.0.0.1/x"},
    ],
)
async def test_no_other_database_has_one_writer(tmp_path: Path, given: dict[str, Any]) -> None:
    assert opened(tmp_path, **given) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"litestream": "/nowhere/litestream"}, "go install"),
        ({"writer_lease": 0}, "needs SQLite, a STORAGE_BUCKET, and a WRITER_LEASE"),
        ({"storage_bucket": "off"}, "needs SQLite, a STORAGE_BUCKET, and a WRITER_LEASE"),
        ({"session_db_uri": "postgresql://u:p@127.0.0.1/x"}, "needs SQLite, a STORAGE_BUCKET, and a WRITER_LEASE"),
        ({"backup_encryption_keys": "A" * 43 + "="}, "cannot encrypt"),
    ],
)
async def test_settings_that_prevent_shipping_are_reported(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupFailure, match=message):
        opened(tmp_path, backup_mode="continuous", **given)


def test_the_image_has_the_documented_version_of_litestream() -> None:
    dockerfile = (Path(__file__).parents[2] / "Dockerfile").read_text()
    assert f"cmd/litestream@v{VERSION}" in dockerfile
    assert f"@v{VERSION}" in INSTALL
