"""Which tables are ours: those that the migrations make, in an order in which each comes after what it refers to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

from session_manager.databases.engine import Engine
from session_manager.databases.tables import Table
from session_manager.domain.errors import StartupFailure
from session_manager.domain.times import Micros
from session_manager.store.schema.migrations import all_migrations
from session_manager.store.schema.upgrade import SQLITE, is_current, upgrade
from session_manager.store.sqlite.connection import Connection

VERSIONS = "session_manager_schema"
# Triggers of other tables write to it, so it is the last to be filled.
_LAST = ("adk_note",)
# Made by the first start: it says which installation this is, not what is kept in it.
OF_THE_INSTALLATION = frozenset({"installation"})


@cache
def table_names() -> tuple[str, ...]:
    """As SQLite makes them; PostgreSQL has all of them, and ADK's version mark besides."""
    connection = Connection(":memory:", 1.0)
    try:
        connection.run(upgrade(Micros(0), SQLITE, all_migrations()))
        rows = connection.raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    finally:
        connection.close()
    names = [name for (name,) in rows if not name.startswith("sqlite_") and name != VERSIONS]
    return tuple(sorted(names, key=lambda name: name in _LAST))


async def our_tables(engine: Engine) -> list[Table]:
    """Those that are there, in that order."""
    there = await engine.tables()
    return [there[name] for name in table_names() if name in there]


async def check_version(engine: Engine) -> None:
    """StartupFailure when the database is not exactly at this version: nothing here upgrades what it only reads."""
    if VERSIONS not in await engine.tables():
        raise StartupFailure(
            f"{engine.shown} is no database of this program; 'session-manager db upgrade' makes it one where "
            "SESSION_DB_URI names it"
        )
    if not await engine.run(is_current(engine.dialect, all_migrations())):
        raise StartupFailure(
            f"{engine.shown} has the schema of another version, or is the target of an unfinished copy: "
            "run 'session-manager db upgrade' where SESSION_DB_URI names it, or finish the copy"
        )


async def make_schema(engine: Engine) -> None:
    """Bring it to this version, inside the caller's transaction."""
    await engine.run(upgrade(Micros(time.time_ns() // 1000), engine.dialect, all_migrations()))


async def filled(engine: Engine, tables: Sequence[Table]) -> list[str]:
    """Those that hold anything of anybody."""
    names = [table.name for table in tables if table.name not in OF_THE_INSTALLATION]
    return [name for name in names if await engine.fetch(f'SELECT 1 FROM "{name}" LIMIT 1')]  # noqa: S608
