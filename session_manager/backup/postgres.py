"""Backup and restore of a PostgreSQL database, by pg_dump, pg_restore and psql, from PATH or from Debian's folders.

pg_dump works on a snapshot that our own connection exports, and the rows are counted on the same snapshot. That
connection holds an advisory lock, so that only one of several front doors makes a backup at a time.

A restore needs a database without tables, and runs in one transaction that ends with counting the rows. Existing data
is never touched. No password appears on a command line.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import asyncpg

from session_manager.backup.catalog import Engine, Manifest
from session_manager.backup.packing import BLOCK
from session_manager.backup.source import SCHEMA, Dump, Progress, compare, local_errors, reject_newer_schema
from session_manager.domain.errors import BackupDamaged, BackupError, Conflict

_DEBIAN = Path("/usr/lib/postgresql")
_COPY = re.compile(rb'COPY ("(?:[^"]|"")*"|[^". ]+)\.("(?:[^"]|"")*"|[^". ]+) ')
_PASSWORD = "password"  # noqa: S105  the name of a parameter
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


@dataclass(frozen=True)
class Server:
    """A server to connect to: ``target`` for a command line, and the password for the program's environment."""

    uri: str = field(repr=False)

    @property
    def target(self) -> str:
        parts = urlsplit(self.uri)
        login, at, place = parts.netloc.rpartition("@")
        query = urlencode([each for each in parse_qsl(parts.query) if each[0] != _PASSWORD])
        return parts._replace(netloc=login.partition(":")[0] + at + place, query=query).geturl()

    @property
    def environment(self) -> dict[str, str]:
        parts = urlsplit(self.uri)
        password = unquote(parts.netloc.rpartition("@")[0].partition(":")[2])
        password = password or dict(parse_qsl(parts.query)).get(_PASSWORD, "")  # asyncpg prefers the first one, too
        return {"PGPASSWORD": password} if password else {}


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
                try:
                    return runner.run(work)
                except _FAILURES as error:
                    reason = f"PostgreSQL: {error or type(error).__name__}"
                    raise BackupError("The database could not be read", reason=reason) from error
                except ValueError:  # asyncpg repeats parts of the address in it
                    raise BackupError("The address of the database is invalid") from None

            settings = {"application_name": "session-manager backup"}
            connection = run(asyncpg.connect(self._uri, timeout=15.0, server_settings=settings))
            try:
                yield connection, run
            finally:
                run(_close(connection))


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


def run_dump(server: Server, path: Path, snapshot: str, done: Callable[[int], None]) -> None:
    """Write the snapshot in pg_dump's own format, uncompressed: backups of every engine are compressed later."""
    path.touch(0o600, exist_ok=False)
    options = ["--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=60000"]
    with _started("pg_dump", *options, f"--snapshot={snapshot}", f"--file={path}", f"--dbname={server.target}",
                  environment=server.environment) as process:  # fmt: skip
        while process.poll() is None:
            done(path.stat().st_size)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.2)  # between looks at the size


def count_copied(path: Path, done: Callable[[int], None]) -> dict[str, int]:
    """Return the number of rows of each ``schema.table`` in a dump. Raises BackupDamaged if it cannot be read."""
    rows: dict[str, int] = {}
    table = None
    size = 0
    try:
        with _started("pg_restore", "--data-only", "--file=-", path, stdout=subprocess.PIPE) as process:
            for line in _pipe(process.stdout):
                size += len(line)
                if table is None:
                    if table := _copied_table(line):
                        rows[table] = 0
                elif line == b"\\.\n":
                    table = None
                    done(size)
                else:
                    rows[table] += 1
    except ProgramFailed as error:
        raise BackupDamaged("The backup is not an intact dump of a database", reason=error.reason) from error
    return rows


def run_restore(server: Server, path: Path, checks: str, done: Callable[[int], None]) -> None:
    """Run the dump and then ``checks`` in one transaction. A run that is killed before the end changes nothing."""
    psql = ("psql", "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
    size = 0
    with _started(*psql, f"--dbname={server.target}", environment=server.environment, stdin=subprocess.PIPE) as into:
        script = _pipe(into.stdin)
        # Not psql's own --single-transaction: it would commit when its input ends early.
        script.write(b"BEGIN;\n")
        with _started("pg_restore", "--no-owner", "--no-acl", "--file=-", path, stdout=subprocess.PIPE) as out:
            dump = _pipe(out.stdout)
            while block := dump.read(BLOCK):
                script.write(block)
                size += len(block)
                done(size)
        script.write(f"{checks}\nCOMMIT;\n".encode())
        script.close()


class ProgramFailed(BackupError):
    """One of PostgreSQL's programs ended with an error; ``reason`` is the end of its output."""


def find_program(name: str) -> Path:
    """Return the newest installed version, since older ones reject newer servers. Raises BackupError."""
    on_path = shutil.which(name)
    candidates = [*_DEBIAN.glob(f"*/bin/{name}"), *([Path(on_path)] if on_path else [])]
    if not candidates:
        raise BackupError(f"{name} is not installed: install PostgreSQL's client (apt install postgresql-client)")
    return max(candidates, key=_version)


def _version(program: Path) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return int(next(iter(re.findall(r"\d+", shown)), 0))


@contextmanager
def _started(
    name: str,
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running program, and kill it if the block is left early. Raises ProgramFailed if it fails."""
    program = find_program(name)
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=stdin, stdout=stdout, stderr=errors,
            env={"PATH": str(program.parent), "LC_MESSAGES": "C", **(environment or {})},
        )  # fmt: skip
        try:
            yield process
        except BrokenPipeError:
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
        if process.wait() != 0:
            errors.seek(0)
            shown = " ".join(errors.read().decode("utf-8", "replace").split())
            raise ProgramFailed(f"{name} failed", reason=f"{name}: {shown[-500:]}")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the program was started without this pipe")
    return stream


def _copied_table(line: bytes) -> str | None:
    found = _COPY.match(line)
    return ".".join(_unquoted(part.decode()) for part in found.groups()) if found else None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
