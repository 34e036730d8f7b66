"""Which database, from the settings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from session_manager.domain.errors import StartupFailure
from session_manager.settings import DEFAULT_DATABASE, Settings
from session_manager.store.postgres.address import Address
from session_manager.store.protocol import Store
from session_manager.store.sqlite.adapter import SqliteStore

_FORMS = "SESSION_DB_URI must be postgresql://…, sqlite:///relative/path or sqlite:////absolute/path"


def open_store(settings: Settings) -> Store:
    """The store that the settings name, not started yet. StartupFailure when they name none."""
    uri = settings.session_db_uri.get_secret_value().strip() if settings.session_db_uri else ""
    if not uri:
        path = settings.cloud_run_session_db_path or Path(DEFAULT_DATABASE)
        return SqliteStore(path, settings.database_patience)
    if is_postgres(uri):
        return _postgres(uri, settings)
    return SqliteStore(sqlite_path(uri), settings.database_patience)


def is_postgres(uri: str) -> bool:
    """Whether it names PostgreSQL, and not SQLite. StartupFailure when it names neither."""
    # The part after + names a driver, for programs that have several.
    scheme, _, _ = uri.partition("://")[0].partition("+")
    if scheme not in ("postgresql", "postgres", "sqlite"):
        raise StartupFailure(_FORMS)
    return scheme != "sqlite"


def sqlite_path(uri: str) -> Path:
    """The path in ``sqlite:///relative`` or ``sqlite:////absolute``."""
    parts = urlsplit(uri)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or path.endswith("/"):
        raise StartupFailure(_FORMS)
    if path == ":memory:":
        raise StartupFailure("A database in memory keeps nothing: SESSION_DB_URI must name a file")
    return Path(path)


def _postgres(uri: str, settings: Settings) -> Store:
    try:
        from session_manager.store.postgres.adapter import PostgresStore  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise StartupFailure("PostgreSQL needs asyncpg: pip install 'session-manager[postgres]'") from None
    address = Address.parse(uri, settings.session_db_plain_hosts)
    return PostgresStore(address.uri, settings.database_pool, settings.database_patience)
