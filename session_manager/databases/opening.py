"""An engine for an address: a URI as in SESSION_DB_URI, or the path of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from session_manager.databases.engine import Engine
from session_manager.databases.on_sqlite import SqliteEngine
from session_manager.domain.errors import StartupFailure
from session_manager.store.open import is_postgres, sqlite_path
from session_manager.store.postgres.address import SETTING, PostgresAddress


@asynccontextmanager
async def opened(
    place: str | Path,
    *,
    read_only: bool,
    if_missing: Literal["make", "refuse", "pretend"] = "make",
    plain_hosts: str = "",
    patience: float = 5.0,
) -> AsyncIterator[Engine]:
    """``plain_hosts`` and ``patience`` as in the settings. StartupFailure, StoreUnavailable: it cannot be opened.

    ``if_missing`` is about a SQLite file that is to be written; ``pretend`` works on one that goes at the end.
    """
    uri = str(place)
    found = _parsed(uri, plain_hosts)
    async with AsyncExitStack() as aside:
        engine: Engine
        if isinstance(found, PostgresAddress):
            engine = await _postgres(found, read_only=read_only, patience=patience)
        else:
            path = found
            real = path
            if not read_only and not path.exists() and if_missing != "make":
                real = _stand_in(path, if_missing, aside)
            engine = SqliteEngine(real, read_only=read_only, patience=patience)
            engine.shown = f"sqlite:///{path}"
        aside.push_async_callback(engine.close)
        yield engine


def _parsed(uri: str, plain_hosts: str) -> PostgresAddress | Path:
    try:
        if "://" in uri and is_postgres(uri):
            return PostgresAddress.parse(uri, plain_hosts)
        return (sqlite_path(uri) if "://" in uri else Path(uri)).absolute()
    except StartupFailure as error:  # the address need not be that of the settings
        raise StartupFailure(error.detail.replace(SETTING, "The address of a database")) from None


def _stand_in(path: Path, if_missing: str, aside: AsyncExitStack) -> Path:
    if if_missing == "refuse":
        raise StartupFailure(f"There is no database file {path}")
    return Path(aside.enter_context(TemporaryDirectory(prefix="session-db-"))) / "sessions.db"


async def _postgres(address: PostgresAddress, *, read_only: bool, patience: float) -> Engine:
    try:
        from session_manager.databases.on_postgres import PostgresEngine  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        raise StartupFailure("PostgreSQL needs asyncpg: pip install 'session-manager[postgres]'") from None
    return await PostgresEngine.open(address, read_only=read_only, patience=patience)
