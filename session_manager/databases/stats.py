"""The size of a database, and the number of its active sessions."""

from __future__ import annotations

import time
from dataclasses import dataclass

from session_manager.databases.code_schema import check_version, our_tables
from session_manager.databases.database import Database, quote
from session_manager.domain.times import Micros
from session_manager.store.transactions import listing, messages

HOUR = 3_600_000_000  # microseconds
# ``last_activity`` is in whole microseconds since 1970 on both engines.
ACTIVE = "SELECT count(*) FROM session WHERE deleted_at IS NULL AND last_activity >= $1"


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
        rows = {table.name: await _count(database, table.name) for table in await our_tables(database)}
        by_status = await database.run(listing.count(None))
        waiting, _ = await database.run(messages.backlog())
        active = (await database.fetch(ACTIVE, hour_ago))[0][0]
    sessions = {status.value: number for status, number in by_status.items()}
    return Stats(database.shown, await database.size(), rows, sessions, active, waiting)


async def _count(database: Database, table: str) -> int:
    return int((await database.fetch(f"SELECT count(*) FROM {quote(table)}"))[0][0])  # noqa: S608
