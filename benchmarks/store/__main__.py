"""``python -m benchmarks.store``: measure, with progress on stderr and the figures on stdout."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.progress import say
from benchmarks.store import measured, report
from benchmarks.store.sides import APP, Ours, Theirs
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.adapter import SqliteStore
from tests.servers.postgres import PostgresServer, postgres_server

POOL = 10
# One statement: ten thousand commits, each with its fsync, would take minutes.
MANY = f"""
INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time)
SELECT '{APP}', '{measured.LISTER}', gen_random_uuid(), '{{}}', at, at
FROM generate_series(1, {measured.SESSIONS}) AS n,
    LATERAL (SELECT now() AT TIME ZONE 'UTC' - n * interval '1 s') AS times (at)
"""
ENGINES = ("sqlite", "postgresql")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each side, in turn (5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round of appends (2)")
    parser.add_argument("--only", choices=ENGINES, help="one engine")
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--folder", type=Path, help="folder for the data during the run, on the disk to be measured")
    return parser.parse_args()


@asynccontextmanager
async def opened(store: SqlStore) -> AsyncIterator[Ours]:
    await store.start()
    try:
        yield Ours(store)
    finally:
        await store.close()


async def on_sqlite(rounds: int, seconds: float, folder: Path) -> measured.Results:
    """Append to a separate file for each side, as it creates it: ours in WAL, theirs with SQLite's default journal."""
    from google.adk.sessions.sqlite_session_service import SqliteSessionService  # noqa: PLC0415  takes a second

    async with opened(SqliteStore(folder / "ours.db")) as ours:
        results = await measured.appends(
            [ours, Theirs(SqliteSessionService(str(folder / "theirs.db")))], rounds, seconds
        )
        say("filling the database for the reads")
        key = await measured.fill(ours)
        same = Theirs(SqliteSessionService(str(folder / "ours.db")))
        return results | await measured.reads(ours, same, key, rounds)


async def on_postgresql(rounds: int, seconds: float, server: PostgresServer) -> measured.Results:
    """Append to a separate database for each side. The server fsyncs."""
    from google.adk.sessions.database_session_service import DatabaseSessionService  # noqa: PLC0415  as above

    def service(database: str) -> DatabaseSessionService:
        return DatabaseSessionService(server.database_uri(database).replace("postgresql:", "postgresql+asyncpg:"))

    server.create_database("theirs")
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(opened(PostgresStore(server.create_database("ours"), POOL)))
        theirs = await stack.enter_async_context(service("theirs"))
        results = await measured.appends([ours, Theirs(theirs)], rounds, seconds)
        say("filling the database for the reads")
        server.execute(MANY, "ours")
        await measured.adopt(ours)
        key = await measured.talk(ours)
        server.execute("VACUUM ANALYZE", "ours")
        same = await stack.enter_async_context(service("ours"))
        return results | await measured.reads(ours, Theirs(same), key, rounds)


def main() -> None:
    given = arguments()
    rounds, seconds = (2, 0.5) if given.quick else (given.rounds, given.seconds)
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=given.folder) as folder:
        if given.only != "postgresql":
            print(
                report.text(report.SQLITE, asyncio.run(on_sqlite(rounds, seconds, Path(folder)))),
                end="\n\n",
                flush=True,
            )
    if given.only != "sqlite":
        with postgres_server("fsync=on") as server:
            print(report.text("PostgreSQL", asyncio.run(on_postgresql(rounds, seconds, server))), flush=True)


if __name__ == "__main__":
    main()
