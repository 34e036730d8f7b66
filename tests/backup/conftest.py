from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.packing import Keys
from session_manager.backup.sqlite import SqliteSource
from session_manager.storage.places import Place
from tests.backup.databases import fill


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A closed database of this program with some sessions and messages."""
    path = tmp_path / "sessions" / "sessions.db"
    await fill(path, sessions=3, messages=5)
    return path


@pytest.fixture
def backups(folder: Place, database: Path) -> Backups:
    return of(database, folder)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[Backups], Backups]:
    """The same backups, seen from a machine without a database."""
    return lambda backups: of(tmp_path / "elsewhere" / "sessions.db", backups.place)


def of(path: Path, place: Place, keys: str = "", **retention: Any) -> Backups:
    kept = Retention(**{"count": 8, "days": 14.0, **retention})
    return Backups(SqliteSource(path), place, Keys.parse(keys), kept)
