"""Backup and restore of a PostgreSQL database, by pg_dump, pg_restore and psql.

pg_dump works on a snapshot that our own connection exports, and the rows are counted on the same snapshot. That
connection holds an advisory lock, so that only one of several front doors makes a backup at a time.

A restore needs a database without tables, and runs in one transaction that ends with counting the rows. Existing data
is never touched.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import asyncpg

from session_manager.backup.catalog import Engine, Manifest
from session_manager.backup.pg_programs import Server, count_copied, run_dump, run_restore
from session_manager.backup.source import SCHEMA, Dump, Progress, compare, local_errors, reject_newer_schema
from session_manager.domain.errors import BackupError, Conflict

_LOCK = 7310868735422100578  # next to that of the schema's upgrade
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
_TABLES = """
SELECT schemaname, tablename FROM pg_catalog.pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname NOT LIKE 'pg\\_%' ORDER BY 1, 2
"""
# Names come from the manifest, which can be altered by anyone who may write to the bucket. They are quoted with a
# random ``tag`` that they cannot contain; without quotes psql could take a name for commands.
_CHECK = """
DO ${tag}$ BEGIN
IF (SELECT count(*) FROM {table}) <> {rows} THEN RAISE EXCEPTION 'rows of %', '{name}'; END IF;
END ${tag}$;
"""


class PostgresSource:
    """``uri`` is for asyncpg and may hold secrets."""

    engine: Engine = "postgresql"

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._server = Server(uri)

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._session() as (connection, run):
            if not run(connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)):
                raise Conflict("A backup or a restore of this database is already running")
            beginning = self.scratch("")
            for left in beginning.parent.glob(f"{beginning.name}*"):
                left.unlink(missing_ok=True)
            yield

    def scratch(self, name: str) -> Path:
        database = hashlib.sha256(self._server.target.encode()).hexdigest()[:12]
        return Path(gettempdir()) / f"session-manager-backup-{database}-{name}"

    def dump(self, path: Path, progress: Progress) -> Dump:
        with self._session() as (connection, run):
            taken_at = datetime.now(UTC)
            run(connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            snapshot = run(connection.fetchval("SELECT pg_catalog.pg_export_snapshot()"))
            version, _ = run(_schema(connection))
            size = run(connection.fetchval("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"))
            with local_errors():
                run_dump(self._server, path, snapshot, lambda done: progress("copy", done, size))
            return Dump(taken_at, version, run(_count_rows(connection)))

    def check(self, path: Path, manifest: Manifest, progress: Progress) -> None:
        with local_errors():
            found = count_copied(path, lambda done: progress("check", done, manifest.size))
        compare({name: found.get(name, 0) for name in found.keys() | manifest.rows.keys()}, manifest)
        # The dump does not show the oldest program that can read it, so the version itself decides.
        reject_newer_schema(manifest.schema_version, manifest.schema_version)

    def holds_data(self) -> bool:
        with self._session() as (connection, run):
            return bool(run(connection.fetch(_TABLES)))

    def changed_at(self) -> datetime | None:
        return None

    def replace(self, path: Path, manifest: Manifest, progress: Progress) -> str | None:
        if self.holds_data():
            raise Conflict(
                "The database contains tables: restore into a new, empty one, and set SESSION_DB_URI to that afterwards"
            )
        tag = f"check_{secrets.token_hex(16)}"
        checks = "".join(
            _CHECK.format(tag=tag, table=_quoted(name), rows=int(rows), name=name.replace("'", "''"))
            for name, rows in sorted(manifest.rows.items())
        )
        with local_errors():
            run_restore(self._server, path, checks, lambda done: progress("restore", done, manifest.size))
        return None

    @contextmanager
    def _session(self) -> Iterator[tuple[asyncpg.Connection[Any], Callable[[Coroutine[Any, Any, Any]], Any]]]:
        """Yield a connection and a function that waits for its results."""
        with asyncio.Runner() as runner:

            def run(work: Coroutine[Any, Any, Any]) -> Any:
                with _database_errors():
                    return runner.run(work)

            connection = run(_connect(self._uri))
            try:
                yield connection, run
            finally:
                run(_close(connection))


async def _connect(uri: str) -> asyncpg.Connection[Any]:
    return await asyncpg.connect(uri, timeout=15.0, server_settings={"application_name": "session-manager backup"})


async def _close(connection: asyncpg.Connection[Any]) -> None:
    try:
        await connection.close(timeout=5.0)
    except _FAILURES:
        connection.terminate()


async def _schema(connection: asyncpg.Connection[Any]) -> tuple[int, int]:
    if await connection.fetchval("SELECT to_regclass('session_manager_schema')") is None:
        return 0, 0
    row = await connection.fetchrow(SCHEMA)
    return (row[0], row[1]) if row else (0, 0)


async def _count_rows(connection: asyncpg.Connection[Any]) -> dict[str, int]:
    """Return the number of rows by ``schema.table``."""
    names = [f"{schema}.{table}" for schema, table in await connection.fetch(_TABLES)]
    return {
        name: await connection.fetchval(f"SELECT count(*) FROM {_quoted(name)}")  # noqa: S608  from the database
        for name in names
    }


def _quoted(name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        reason = f"PostgreSQL: {error or type(error).__name__}"
        raise BackupError("The database could not be read", reason=reason) from error
    except ValueError:  # asyncpg repeats parts of the address in it
        raise BackupError("The address of the database is invalid") from None
