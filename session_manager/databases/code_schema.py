"""The tables of the code's schema: their order, their version, ADK's shared states, and their size.

ADK's layout on PostgreSQL needs a row for the state of each app and each user, even an empty one. On SQLite these rows
exist only if there is state, so an empty row means the same as a missing one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from session_manager.databases.database import Database, Row, Table, quote
from session_manager.domain.errors import StartupFailure
from session_manager.domain.times import Micros
from session_manager.store.schema.upgrade import SQLITE, all_migrations, is_current, upgrade
from session_manager.store.sqlite.connection import Connection
from session_manager.store.transactions import listing, messages

VERSIONS = "session_manager_schema"
USAGE = "user_usage"  # triggers fill it from the other tables

_STATES = frozenset({"app_states", "user_states"})
_FILL = (
    """
    INSERT INTO app_states (app_name, state, update_time)
    SELECT app_name, '{}', max(update_time) FROM sessions WHERE true GROUP BY app_name ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO user_states (app_name, user_id, state, update_time)
    SELECT app_name, user_id, '{}', max(update_time) FROM sessions WHERE true GROUP BY app_name, user_id
    ON CONFLICT DO NOTHING
    """,
)

HOUR = 3_600_000_000  # microseconds
# ``last_activity`` is in whole microseconds since 1970 on both engines.
ACTIVE = "SELECT count(*) FROM session WHERE deleted_at IS NULL AND last_activity >= $1"


@cache
def table_names() -> tuple[str, ...]:
    """Return the tables with content of their own that the migrations create, each after those that it refers to.

    PostgreSQL also has ADK's table of versions.
    """
    connection = Connection(":memory:", 1.0)
    try:
        connection.run(upgrade(Micros(0), SQLITE, all_migrations()))
        rows = connection.raw.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    finally:
        connection.close()
    names = [name for (name,) in rows if not name.startswith("sqlite_") and name not in (VERSIONS, USAGE)]
    # Triggers of other tables write notes, so those are filled last.
    return tuple(sorted(names, key=lambda name: name == "adk_note"))


async def our_tables(database: Database) -> list[Table]:
    """Return the tables that exist, in that order."""
    there = await database.tables()
    return [there[name] for name in table_names() if name in there]


async def check_version(database: Database) -> None:
    """Raise StartupFailure unless the database has exactly this version: one that is only read is not upgraded."""
    if VERSIONS not in await database.tables():
        raise StartupFailure(
            f"{database.shown} is not a database of this program; to make it one, set SESSION_DB_URI to it and run "
            "'session-manager db upgrade'"
        )
    if not await database.run(is_current(database.dialect, all_migrations())):
        raise StartupFailure(
            f"{database.shown} has the schema of another version, or is the target of an unfinished copy; set "
            "SESSION_DB_URI to it and run 'session-manager db upgrade', or finish the copy"
        )


async def filled(database: Database) -> list[str]:
    """Return the names of the tables that have data of users."""
    # The first start fills ``installation``. It identifies the installation and holds no data of users.
    names = [table.name for table in await our_tables(database) if table.name != "installation"]
    return [name for name in names if await database.fetch(f'SELECT 1 FROM "{name}" LIMIT 1')]  # noqa: S608


async def fill_states(database: Database) -> None:
    """Insert missing state rows if ADK's layout needs them."""
    for statement in _FILL if database.dialect.engine == "postgresql" else ():
        await database.fetch(statement)


def content_check(table: Table) -> Callable[[Row], bool]:
    """Return a function that is False for a row that is only an empty state."""
    if table.name not in _STATES:
        return lambda _: True
    number = table.names.index("state")
    return lambda row: bool(row[number].strip("{} "))


@dataclass(frozen=True, slots=True)
class Stats:
    """``bytes`` of the whole, and by table if the engine knows them. ``sessions`` by the status that SQL knows.

    ``active`` counts sessions with a turn in the last hour, ``waiting`` messages without a result.
    """

    uri: str
    bytes: dict[str, int]
    rows: dict[str, int]
    sessions: dict[str, int]
    active: int
    waiting: int


async def stats(database: Database) -> Stats:
    """Count without writing. Raises StartupFailure unless the database has this version."""
    await check_version(database)
    hour_ago = Micros(time.time_ns() // 1000 - HOUR)
    async with database.reading():
        rows = {table.name: await count(database, table) for table in await our_tables(database)}
        by_status = await database.run(listing.count(None))
        waiting, _ = await database.run(messages.backlog())
        active = (await database.fetch(ACTIVE, hour_ago))[0][0]
    sessions = {status.value: number for status, number in by_status.items()}
    return Stats(database.shown, await database.size(), rows, sessions, active, waiting)


async def count(database: Database, table: Table) -> int:
    """Return the number of rows of a table."""
    return int((await database.fetch(f"SELECT count(*) FROM {quote(table.name)}"))[0][0])  # noqa: S608
