"""Opens a database by its address: a URI as in SESSION_DB_URI, or the path of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from session_manager.databases.database import Database
from session_manager.databases.on_sqlite import SqliteDatabase
from session_manager.domain.errors import StartupFailure
from session_manager.domain.extras import needs_extra
from session_manager.store.open import is_postgres, sqlite_path
from session_manager.store.postgres.address import PostgresAddress

_NAME = "the address of a database"  # in errors: it need not be the address of the settings


@asynccontextmanager
async def opened(
    place: str | Path,
    *,
    read_only: bool,
    if_missing: Literal["make", "refuse", "pretend"] = "make",
    plain_hosts: str = "",
    patience: float = 5.0,
) -> AsyncIterator[Database]:
    """Open a database. ``plain_hosts`` and ``patience`` are as in the settings.

    ``if_missing`` is for a SQLite file to write; ``pretend`` uses a temporary file. Raises StartupFailure or
    StoreUnavailable if the database cannot be opened.
    """
    address = _parsed(str(place), plain_hosts)
    async with AsyncExitStack() as aside:
        database: Database
        if isinstance(address, PostgresAddress):
            database = await _postgres(address, read_only=read_only, patience=patience)
        else:
            stand_in = None
            if not read_only and not address.exists() and if_missing != "make":
                stand_in = _stand_in(address, if_missing, aside)
            database = SqliteDatabase(address, stand_in, read_only=read_only, patience=patience)
        aside.push_async_callback(database.close)
        yield database


def _parsed(uri: str, plain_hosts: str) -> PostgresAddress | Path:
    if "://" not in uri:
        return Path(uri).absolute()
    if is_postgres(uri, _NAME):
        return PostgresAddress.parse(uri, plain_hosts, _NAME)
    return sqlite_path(uri, _NAME).absolute()


def _stand_in(path: Path, if_missing: str, aside: AsyncExitStack) -> Path:
    if if_missing == "refuse":
        raise StartupFailure(f"the database file {path} does not exist")
    return Path(aside.enter_context(TemporaryDirectory(prefix="session-db-"))) / "sessions.db"


async def _postgres(address: PostgresAddress, *, read_only: bool, patience: float) -> Database:
    try:
        from session_manager.databases.on_postgres import PostgresDatabase  # noqa: PLC0415  optional
    except ModuleNotFoundError:
        raise StartupFailure(needs_extra("PostgreSQL", "postgres")) from None
    return await PostgresDatabase.open(address, read_only=read_only, patience=patience)
