"""Which database, from the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from session_manager.domain.errors import StartupFailure
from session_manager.settings import DEFAULT_DATABASE, Settings
from session_manager.store.postgres.address import Address
from session_manager.store.protocol import Store
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.store.sqlite.file_system import unsuitable

log = logging.getLogger(__name__)

SETTING = "SESSION_DB_URI"  # as errors call the address
_FORMS = "SESSION_DB_URI must be postgresql://…, sqlite:///relative/path or sqlite:////absolute/path"


def open_store(settings: Settings, fence: Callable[[], None] | None = None) -> Store:
    """The store that the settings name, not started yet. StartupFailure when they name none.

    ``fence`` raises when another machine may be writing to a copy of the file.
    """
    path = database_path(settings)
    if path is None:
        return _postgres(database_uri(settings), settings)
    return SqliteStore(path, settings.database_patience, fence=fence)


def database_uri(settings: Settings) -> str:
    """SESSION_DB_URI with its secrets, or nothing."""
    return settings.session_db_uri.get_secret_value().strip() if settings.session_db_uri else ""


def database_path(settings: Settings) -> Path | None:
    """The file of the live database; None with PostgreSQL. StartupFailure when the settings name none."""
    uri = database_uri(settings)
    if uri and is_postgres(uri):
        return None
    path = sqlite_path(uri) if uri else settings.cloud_run_session_db_path or Path(DEFAULT_DATABASE)
    return _on_local_disk(path, settings) if settings.backup_place else path


def _on_local_disk(path: Path, settings: Settings) -> Path:
    """Where backups keep the file, it need not lie on a mount that cannot hold it: then it is in the data folder."""
    reason = unsuitable(_existing(path.absolute().parent))
    local = settings.data_dir / Path(DEFAULT_DATABASE).relative_to("data")
    if reason is None or path.absolute() == local.absolute():
        return path
    if path.exists() and path.stat().st_size and not local.exists():
        raise StartupFailure(
            f"The database file {path} is on {reason}. Move it once, while nobody uses it: "
            f"session-manager db copy sqlite:///{path} sqlite:///{local}"
        )
    extra = {"event": "store.moved", "local_db": str(local), "reason": reason}
    log.warning("%s is on %s: facts are kept in %s, and in backups", path, reason, local, extra=extra)
    return local


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return folder if folder.is_dir() else _existing(folder.parent)


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
