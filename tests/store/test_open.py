"""Which database the settings mean."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.store.open import open_store
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.sqlite.adapter import SqliteStore


def settings(uri: str | None = None, path: str | None = None) -> Settings:
    return Settings(
        _env_file=None,
        session_db_uri=None if uri is None else SecretStr(uri),
        cloud_run_session_db_path=None if path is None else Path(path),
        database_pool=3,
        database_patience=2.5,
    )


@pytest.mark.parametrize(
    ("uri", "path", "shown"),
    [
        (None, None, "sqlite:///data/sessions/sessions.db"),
        ("", None, "sqlite:///data/sessions/sessions.db"),
        (None, "/mnt/x.db", "sqlite:////mnt/x.db"),
        ("sqlite:///x.db", "/mnt/y.db", "sqlite:///x.db"),
        ("sqlite:///some/x.db", None, "sqlite:///some/x.db"),
        ("sqlite:////some/x.db", None, "sqlite:////some/x.db"),
        ("sqlite+aiosqlite:////some/a%20b.db", None, "sqlite:////some/a b.db"),
        ("postgresql://me:pw@db.example:5433/facts", None, "postgresql://db.example:5433/facts"),
        ("postgres://me:p%40w@db.example/facts?sslmode=require", None, "postgresql://db.example/facts"),
        ("postgresql+asyncpg://me:p@w@db.example/facts", "/mnt/x.db", "postgresql://db.example/facts"),
        ("postgresql:///facts?host=/cloudsql/project:region:db&password=pw", None, "postgresql:///facts"),
    ],
)
def test_the_address_decides(uri: str | None, path: str | None, shown: str) -> None:
    store = open_store(settings(uri, path))
    assert isinstance(store, PostgresStore if "postgres" in shown else SqliteStore)
    assert store.uri == shown


@pytest.mark.parametrize(
    "uri",
    [
        "mysql://me:secret@host/db",
        "/data/x.db",
        "sqlite://",
        "sqlite:///",
        "sqlite://data/x.db",
        "sqlite:////data/",
        "sqlite:///:memory:",
        "secret",
    ],
)
def test_an_address_that_is_none(uri: str) -> None:
    with pytest.raises(StartupFailure) as caught:
        open_store(settings(uri))
    assert "SESSION_DB_URI" in caught.value.detail
    assert "secret" not in caught.value.detail


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("session_manager.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StartupFailure, match="pip install"):
        open_store(settings("postgresql://db.example/facts"))
    assert open_store(settings("sqlite:///x.db")).uri == "sqlite:///x.db"


async def test_the_default_is_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(settings())
    await store.start()
    await store.close()
    assert (tmp_path / "data" / "sessions").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "sessions" / "sessions.db").stat().st_mode & 0o777 == 0o600
