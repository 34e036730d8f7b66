"""Databases with everything in them: our sessions with their messages, and what real ADK services wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases.filled import fill
from tests.store.conftest import postgres, postgres_uri

__all__ = ["postgres", "postgres_uri"]


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """A SQLite file with something in every table."""
    path = tmp_path / "source.db"
    await fill(path)
    return path
