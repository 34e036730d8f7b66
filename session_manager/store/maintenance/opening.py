"""An engine for an address: a URI as in SESSION_DB_URI, or the path of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from session_manager.domain.errors import StartupFailure
from session_manager.store.maintenance.engine import Engine
from session_manager.store.maintenance.on_sqlite import SqliteEngine
from session_manager.store.open import is_postgres, sqlite_path
from session_manager.store.postgres.address import Address


@asynccontextmanager
async def opened(
    place: str | Path, *, read_only: bool, plain_hosts: str = "", patience: float = 5.0
) -> AsyncIterator[Engine]:
    """``plain_hosts`` and ``patience`` as in the settings. StartupFailure, StoreUnavailable: it cannot be opened."""
    uri = str(place)
    engine: Engine
    if "://" in uri and is_postgres(uri):
        engine = await _postgres(uri, plain_hosts, read_only=read_only, patience=patience)
    else:
        path = sqlite_path(uri) if "://" in uri else Path(uri)
        engine = SqliteEngine(path.absolute(), read_only=read_only, patience=patience)
    try:
        yield engine
    finally:
        await engine.close()


async def _postgres(uri: str, plain_hosts: str, *, read_only: bool, patience: float) -> Engine:
    try:
        from session_manager.store.maintenance.on_postgres import PostgresEngine  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        raise StartupFailure("PostgreSQL needs asyncpg: pip install 'session-manager[postgres]'") from None
    return await PostgresEngine.open(Address.parse(uri, plain_hosts), read_only=read_only, patience=patience)
