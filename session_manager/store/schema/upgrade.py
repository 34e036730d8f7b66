"""Upgrades a database to the version of the code, in one transaction under the engine's lock.

Front doors that start at once wait for each other: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by an advisory lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from session_manager.domain.errors import StartupFailure
from session_manager.domain.times import Micros
from session_manager.store.schema.foreign import reject_foreign
from session_manager.store.schema.migrations import Migration
from session_manager.store.transactions.base import Transaction


@dataclass(frozen=True, slots=True)
class Dialect:
    """An engine's ``words`` for migrations, the ``lock`` taken first, and a SELECT of the ``columns`` of table $1."""

    engine: str
    words: Mapping[str, str]
    columns: str
    lock: str | None = None


SQLITE = Dialect(
    engine="sqlite",
    words={
        "key": "TEXT",
        "int": "INTEGER",
        "float": "REAL",
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "updated_often": "STRICT",
        "keyed": "STRICT, WITHOUT ROWID",
        "rowid": "STRICT",
    },
    columns="SELECT name FROM pragma_table_info($1)",
)
POSTGRES = Dialect(
    engine="postgresql",
    # Collation "C" orders and compares by bytes, as SQLite does. With free space in a page, an update of a row that
    # each turn touches stays in the page and changes no index.
    words={
        "key": 'TEXT COLLATE "C"',
        "int": "BIGINT",
        "float": "DOUBLE PRECISION",
        "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "updated_often": "WITH (fillfactor = 80)",
        "keyed": "",
        "rowid": "",
    },
    columns="""
    SELECT attname FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
    """,
    lock="SELECT pg_advisory_xact_lock(7310868735422100577)",
)

HALF_COPIED = 1_000_000  # the version of an unfinished copy, so that no front door serves half of the data
_CREATE = (
    "CREATE TABLE session_manager_schema (version {int} NOT NULL PRIMARY KEY, readable_by {int} NOT NULL, "
    "applied_at {int} NOT NULL)"
)


def upgrade(now: Micros, dialect: Dialect, migrations: Sequence[Migration]) -> Transaction[int]:
    """Apply the missing migrations and return their number.

    Raises StartupFailure if a newer program has made changes that this one cannot work with.
    """
    if dialect.lock:
        yield dialect.lock, ()
    found = yield from _found(dialect)
    if found is None:
        yield _create_versions(dialect), ()
    version, readable_by = found or (0, 0)
    known = migrations[-1].version
    if version == HALF_COPIED:
        raise StartupFailure("This database is the target of an unfinished copy: run the same 'db copy' again")
    if version > known and readable_by > known:
        raise StartupFailure(
            f"The database has schema version {version}; this program supports version {known}. Start a newer program."
        )
    yield from reject_foreign(dialect.engine, dialect.columns)
    missing = [migration for migration in migrations if migration.version > version]
    for migration in missing:
        yield from _apply(now, dialect, migration)
    return len(missing)


def is_current(dialect: Dialect, migrations: Sequence[Migration]) -> Transaction[bool]:
    """Return True if the database has exactly the code's version. Needs neither a lock nor a right to change it."""
    found = yield from _found(dialect)
    return found is not None and found[0] == migrations[-1].version


def _found(dialect: Dialect) -> Transaction[tuple[int, int] | None]:
    columns = yield dialect.columns, ("session_manager_schema",)
    if not columns:
        return None
    rows = yield "SELECT version, readable_by FROM session_manager_schema ORDER BY version DESC LIMIT 1", ()
    return (rows[0][0], rows[0][1]) if rows else (0, 0)


def _create_versions(dialect: Dialect) -> str:
    return _CREATE.format(int=dialect.words["int"])


def _apply(now: Micros, dialect: Dialect, migration: Migration) -> Transaction[None]:
    for statement in migration.statements(dialect.words, dialect.engine):
        yield statement, ()
    yield (
        "INSERT INTO session_manager_schema (version, readable_by, applied_at) VALUES ($1, $2, $3)",
        (migration.version, migration.readable_by, now),
    )
