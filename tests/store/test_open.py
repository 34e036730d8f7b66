"""The database that the settings select."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from session_manager.backup.postgres import Server
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.store.open import database_uri, open_store
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.postgres.address import PostgresAddress
from session_manager.store.sqlite.adapter import SqliteStore

SOCKET = "postgresql:///facts?host=/cloudsql/project:region:db"


def settings(uri: str | None = None, path: str | None = None, plain_hosts: str = "") -> Settings:
    return Settings.from_environment(
        session_db_uri=None if uri is None else SecretStr(uri),
        cloud_run_session_db_path=None if path is None else Path(path),
        session_db_plain_hosts=plain_hosts,
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
        ("postgresql://me:pw@db.example:5433/facts", None, "postgresql://db.example:5433/facts?sslmode=require"),
        ("postgres://me:p%40w@db.example/facts?sslmode=require", None, "postgresql://db.example/facts?sslmode=require"),
        ("postgresql+asyncpg://me:p@w@127.0.0.1/facts", "/mnt/x.db", "postgresql://127.0.0.1/facts"),
        ("postgresql+psycopg://me@[::1]:5433/facts", None, "postgresql://[::1]:5433/facts"),
        ("postgresql+asyncpg://me:p@d.example/f?ssl=verify-full", None, "postgresql://d.example/f?sslmode=verify-full"),
        ("postgresql:///facts?host=/cloudsql/project:region:db&password=pw", None, SOCKET),
        ("postgresql://me:pw@/facts?host=/cloudsql/project:region:db", None, SOCKET),
        ("postgresql://me:pw@%2Fcloudsql%2Fp%3Ar%3Adb/facts", None, "postgresql://%2Fcloudsql%2Fp%3Ar%3Adb/facts"),
        ("postgresql://me:pw@localhost,a.example:5433/facts", None, "sslmode=require"),
        ("postgresql:///facts", None, "postgresql:///facts"),
    ],
)
def test_the_address_selects_the_engine(uri: str | None, path: str | None, shown: str) -> None:
    store = open_store(settings(uri, path))
    assert isinstance(store, PostgresStore if uri and uri.startswith("postgres") else SqliteStore)
    assert store.uri.endswith(shown)
    assert "pw" not in store.uri


def test_the_shown_address_needs_no_file_after_the_start(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    store = open_store(settings(f"postgresql://d.example/facts?sslmode=verify-full&sslrootcert={ca}"))
    ca.unlink()
    assert store.uri == "postgresql://d.example/facts?sslmode=verify-full"


@given(password=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1))
def test_a_password_of_any_characters_needs_no_escaping(password: str) -> None:
    for uri in (
        "postgresql://me@127.0.0.1/facts",
        "postgresql://me@/facts?host=/cloudsql/a:b:c",
        "postgres://db:1/f?x=y",
    ):
        chosen = Settings.from_environment(session_db_uri=uri, session_db_password=SecretStr(password))
        parts = urlsplit(PostgresAddress.parse(database_uri(chosen)).uri)
        assert unquote(parts.netloc.rpartition("@")[0].partition(":")[2]) == password
        assert Server(database_uri(chosen)).environment["PGPASSWORD"] == password


@pytest.mark.parametrize(
    "uri", ["postgresql://me:own@db/f", "postgresql://me@/f?host=/s&password=own", "sqlite:///x.db"]
)
def test_the_password_is_not_for_an_address_that_has_one(uri: str) -> None:
    chosen = Settings.from_environment(session_db_uri=uri, session_db_password=SecretStr("other"))
    assert database_uri(chosen) == uri


@pytest.mark.parametrize("name", ["session_db_password", "redis_password"])
def test_a_password_with_a_line_break_is_refused(name: str) -> None:
    with pytest.raises(StartupFailure, match=rf"{name.upper()}: invalid password; expected one line") as failure:
        Settings.from_environment(**{name: "hidden\n"})
    assert "hidden" not in failure.value.detail


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("mysql://me:secret@host/db", "SESSION_DB_URI"),
        ("/data/x.db", "SESSION_DB_URI"),
        ("sqlite://", "SESSION_DB_URI"),
        ("sqlite:///", "SESSION_DB_URI"),
        ("sqlite://data/x.db", "SESSION_DB_URI"),
        ("sqlite:////data/", "SESSION_DB_URI"),
        ("sqlite:///:memory:", "SESSION_DB_URI"),
        ("secret", "SESSION_DB_URI"),
        ("postgresql://me:secret/1@127.0.0.1/facts", "%XX"),
        ("postgresql://me:secret#1@127.0.0.1/facts", "%XX"),
        ("postgresql://me:secret[1@127.0.0.1/facts", "%XX"),
        ("postgresql://me:secret@127.0.0.1/facts?sslmode", "%XX"),
        ("postgresql://me:secret@127.0.0.1/facts?sslmode=safe", "sslmode"),
        ("postgresql://me:secret@127.0.0.1/facts?service=x", "service file"),
        ("postgresql://me:secret@127.0.0.1/facts?channel_binding=require", "channel_binding"),
        ("postgresql://me:secret@d.example/facts?sslmode=verify-full&sslrootcert=/none/ca.pem", "sslrootcert"),
        ("postgresql://me:secret@d.example/facts?sslmode=disable", "SESSION_DB_PLAIN_HOSTS"),
        ("postgresql://me:secret@d.example/facts?sslmode=prefer", "SESSION_DB_PLAIN_HOSTS"),
        ("postgresql://me:secret@10.0.0.1/facts?sslmode=allow", "SESSION_DB_PLAIN_HOSTS"),
        ("postgresql://me:secret@localhost,d.example/facts?sslmode=disable", "SESSION_DB_PLAIN_HOSTS"),
        ("postgresql://me:secret@/facts?host=d.example&sslmode=disable", "SESSION_DB_PLAIN_HOSTS"),
    ],
)
def test_an_invalid_address(uri: str, words: str) -> None:
    with pytest.raises(StartupFailure) as caught:
        open_store(settings(uri))
    assert words in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("hosts", ["d.example", "other, d.example", "*"])
def test_a_host_that_needs_no_tls(hosts: str) -> None:
    uri = "postgresql://me:secret@d.example/facts"
    assert open_store(settings(uri, plain_hosts=hosts)).uri == "postgresql://d.example/facts"
    assert open_store(settings(f"{uri}?sslmode=disable", plain_hosts=hosts)).uri.endswith("?sslmode=disable")
    with pytest.raises(StartupFailure, match="SESSION_DB_PLAIN_HOSTS"):
        open_store(settings(f"{uri.replace('d.', 'e.d.')}?sslmode=disable", plain_hosts=hosts.replace("*", "")))


def test_postgresql_without_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    for name in [name for name in sys.modules if name.startswith("session_manager.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(StartupFailure, match="pip install"):
        open_store(settings("postgresql://db.example/facts"))
    assert open_store(settings("sqlite:///x.db")).uri == "sqlite:///x.db"


async def test_the_default_is_a_separate_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(settings())
    await store.start()
    await store.close()
    assert (tmp_path / "data" / "sessions").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "sessions" / "sessions.db").stat().st_mode & 0o777 == 0o600
