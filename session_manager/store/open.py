"""Opens the store that the settings name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from session_manager.domain.adk.model import AdoptAs
from session_manager.domain.errors import StartupFailure
from session_manager.domain.extras import needs_extra
from session_manager.settings import Settings
from session_manager.store.postgres.address import SETTING, PostgresAddress, with_password
from session_manager.store.protocol import Store
from session_manager.store.sql import default_class
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.store.sqlite.file_system import unsuitable

log = logging.getLogger(__name__)

_FORMS = "{} is not valid; expected postgresql://…, sqlite:///relative/path or sqlite:////absolute/path"


def open_store(settings: Settings, fence: Callable[[], None] | None = None, adopt_as: AdoptAs = default_class) -> Store:
    """Return the store that the settings name, not started. Raises StartupFailure if they are invalid.

    ``fence`` raises NotTheWriter if another machine may be writing to a copy of the file.
    """
    path = database_path(settings)
    if path is None:
        return _postgres(database_uri(settings), settings, adopt_as)
    quotas = settings.quotas.by_user
    return SqliteStore(path, settings.database.patience, fence=fence, adopt_as=adopt_as, quotas=quotas)


def database_uri(settings: Settings) -> str:
    """Return SESSION_DB_URI with its secrets and SESSION_DB_PASSWORD, or an empty text."""
    uri = settings.database.uri.get_secret_value().strip() if settings.database.uri else ""
    password = settings.database.password
    return with_password(uri, password.get_secret_value()) if password and not uri.startswith("sqlite") else uri


def database_path(settings: Settings) -> Path | None:
    """Return the file of the live database, or None with PostgreSQL. Raises StartupFailure for an invalid setting."""
    uri = database_uri(settings)
    if uri and is_postgres(uri):
        return None
    path = sqlite_path(uri) if uri else settings.database.path or settings.local_database
    return _on_local_disk(path, settings) if settings.backup.place else path


def _on_local_disk(path: Path, settings: Settings) -> Path:
    """Return the path, or one in the data folder if SQLite cannot use that mount. Then backups keep the file."""
    reason = unsuitable(_existing(path.absolute().parent))
    local = settings.local_database
    if reason is None or path.absolute() == local.absolute():
        return path
    if path.exists() and path.stat().st_size and not local.exists():
        raise StartupFailure(
            f"The database file {path} is on {reason}. Move it once, with all front doors stopped: "
            f"session-manager db copy sqlite:///{path} sqlite:///{local}"
        )
    extra = {"event": "store.moved", "local_db": str(local), "reason": reason}
    log.warning("%s is on %s; the database is kept in %s and in backups", path, reason, local, extra=extra)
    return local


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return folder if folder.is_dir() else _existing(folder.parent)


def is_postgres(uri: str, name: str = SETTING) -> bool:
    """Return True for a PostgreSQL address, False for SQLite. Raises StartupFailure, naming ``name``, for any other."""
    # The part after + names a driver, for programs that have several.
    scheme, _, _ = uri.partition("://")[0].partition("+")
    if scheme not in ("postgresql", "postgres", "sqlite"):
        raise StartupFailure(_FORMS.format(name))
    return scheme != "sqlite"


def sqlite_path(uri: str, name: str = SETTING) -> Path:
    """Return the path in ``sqlite:///relative`` or ``sqlite:////absolute``. Raises StartupFailure, naming ``name``."""
    parts = urlsplit(uri)
    path = unquote(parts.path[1:])
    if parts.netloc or not path or path.endswith("/"):
        raise StartupFailure(_FORMS.format(name))
    if path == ":memory:":
        raise StartupFailure(f"{name}: a database in memory would lose all data; expected the path of a file")
    return Path(path)


def _postgres(uri: str, settings: Settings, adopt_as: AdoptAs) -> Store:
    try:
        from session_manager.store.postgres.adapter import PostgresStore  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise StartupFailure(needs_extra("PostgreSQL", "postgres")) from None
    address = PostgresAddress.parse(uri, settings.database.plain_hosts)
    pool, patience, quotas = settings.database.pool, settings.database.patience, settings.quotas.by_user
    return PostgresStore(address.uri, pool, patience, adopt_as=adopt_as, quotas=quotas)
