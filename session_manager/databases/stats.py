"""How much a database holds, and how much of it is alive."""

from __future__ import annotations

import time
from dataclasses import dataclass

from session_manager.databases.code_schema import check_version, our_tables
from session_manager.databases.engine import Engine
from session_manager.databases.tables import quote
from session_manager.domain.times import Micros
from session_manager.store.transactions import history, listing

HOUR = 3_600_000_000  # microseconds
# ``last_activity`` is whole microseconds since 1970 on both engines.
ACTIVE = "SELECT count(*) FROM session WHERE deleted_at IS NULL AND last_activity >= $1"


@dataclass(frozen=True, slots=True)
class Stats:
    """``bytes``: the whole, and by table where the engine knows it. ``sessions`` by status, as SQL alone knows it.

    ``active``: sessions with a turn in the last hour. ``waiting``: messages without a result.
    """

    uri: str
    bytes: dict[str, int]
    rows: dict[str, int]
    sessions: dict[str, int]
    active: int
    waiting: int


async def stats(engine: Engine) -> Stats:
    """Reads only. StartupFailure when it is no database of this version."""
    await check_version(engine)
    hour_ago = Micros(time.time_ns() // 1000 - HOUR)
    async with engine.reading():
        rows = {table.name: await _count(engine, table.name) for table in await our_tables(engine)}
        by_status = await engine.run(listing.count(None))
        waiting, _ = await engine.run(history.backlog())
        active = (await engine.fetch(ACTIVE, hour_ago))[0][0]
    sessions = {status.value: number for status, number in by_status.items()}
    return Stats(engine.shown, await engine.size(), rows, sessions, active, waiting)


async def _count(engine: Engine, table: str) -> int:
    return int((await engine.fetch(f"SELECT count(*) FROM {quote(table)}"))[0][0])  # noqa: S608
