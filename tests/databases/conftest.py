"""Databases with rows in all tables: our sessions with messages, and sessions of real ADK services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases.filled import fill
from tests.store.conftest import postgres, postgres_uri

__all__ = ["postgres", "postgres_uri"]


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """Return a SQLite file with rows in each table."""
    path = tmp_path / "source.db"
    await fill(path)
    return path
