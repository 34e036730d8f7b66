"""Upgrades a database to the version of the code, in one transaction under the engine's lock.

Front doors that start at once wait for each other: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by an advisory lock.
Existing tables with ADK's names are checked: our layout is made for one ADK service, and others are rejected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from session_manager.domain.errors import StartupFailure
from session_manager.domain.times import Micros
from session_manager.store.transactions.base import Transaction

# A semicolon in the body of a trigger (BEGIN … END) or a function ($$ … $$), or in a string, ends no statement.
_STATEMENT = re.compile(r"(?:\$\$.*?\$\$|\bBEGIN\b.*?\bEND\b|'[^']*'|[^;])++(?=;)", re.DOTALL)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)

_METADATA = "adk_internal_metadata"
_COLUMNS = {
    "app_states": {"app_name", "state", "update_time"},
    "user_states": {"app_name", "user_id", "state", "update_time"},
    "sessions": {"app_name", "user_id", "id", "state", "create_time", "update_time"},
    "events": {"id", "app_name", "user_id", "session_id", "invocation_id", "timestamp", "event_data"},
}
_OLD = (
    "The database has the tables of an early ADK version, which kept event fields in separate columns. "
    "Convert it first with 'adk migrate session'."
)
_OTHER_SERVICE = (
    "The database file was written by ADK's DatabaseSessionService; a file must have the layout of ADK's "
    "SqliteSessionService. Use another file, and move the sessions into it with a few lines: docs/migration.md."
)
_MIXED = (
    "ADK's DatabaseSessionService has written into this database file, with times as text, which neither this program "
    "nor ADK's SqliteSessionService can read. Restore a backup from before, or move the sessions into another file "
    "with a few lines: docs/migration.md."
)
_VERSION = "SELECT value FROM adk_internal_metadata WHERE key = 'schema_version'"
_TIMES_ARE_NUMBERS = "SELECT 1 FROM pragma_table_info('sessions') WHERE name = 'update_time' AND type = 'REAL'"
_TIMES_AS_TEXT = " UNION ALL ".join(
    f"SELECT 1 FROM {table} WHERE typeof({column}) = 'text'"  # noqa: S608  the names are ours
    for table, column in {
        "app_states": "update_time",
        "user_states": "update_time",
        "sessions": "update_time",
        "events": "timestamp",
    }.items()
)


@dataclass(frozen=True, slots=True)
class Migration:
    """``sql`` has statements with the words of ``Dialect`` in braces. ``after`` has more of them, by engine.

    ``readable_by`` is the oldest version of the code that can use a database of this version. An additive change (a new
    table, a column with a default, an index) keeps it, so that a deployment can be rolled back.
    """

    version: int
    readable_by: int
    sql: str
    after: Mapping[str, str] = field(default_factory=dict)

    def statements(self, words: Mapping[str, str], engine: str = "") -> list[str]:
        """Return the statements for one engine, in order."""
        text = _COMMENT.sub("", f"{self.sql}\n{self.after.get(engine, '')}")
        for word, replacement in words.items():
            text = text.replace("{" + word + "}", replacement)
        return [statement.strip() for statement in _STATEMENT.findall(text)]


def load(version: int, readable_by: int, name: str, engines: Sequence[str] = ()) -> Migration:
    """Load a migration from this package: ``name.sql``, and ``name.engine.sql`` for each of ``engines``."""
    return Migration(version, readable_by, _text(name), {engine: _text(f"{name}.{engine}") for engine in engines})


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


ENGINES = ("sqlite", "postgresql")


def all_migrations() -> Sequence[Migration]:
    """Return all migrations of this version of the code, in ascending order without gaps."""
    return (
        load(1, 1, "0001_initial"),
        load(2, 1, "0002_adk", ENGINES),
        load(3, 1, "0003_traces"),
        load(4, 1, "0004_quotas", ENGINES),
    )


def reject_foreign(engine: str, columns_of: str) -> Transaction[None]:
    """Raise StartupFailure if there are tables with ADK's names in a layout that cannot be used.

    ``columns_of`` selects the columns of the table in $1, and no row if it does not exist.
    """
    found = {}
    for table in (*_COLUMNS, _METADATA):
        rows = yield columns_of, (table,)
        found[table] = {row[0] for row in rows}
    if found["events"] and "event_data" not in found["events"] and "actions" in found["events"]:
        raise StartupFailure(_OLD)
    if found[_METADATA]:
        yield from _check_file() if engine == "sqlite" else _check_version()
    for table, needed in _COLUMNS.items():
        if found[table] and not needed <= found[table]:
            raise StartupFailure(f"The database has a table '{table}' that is not one of ADK's. Use another database.")


def _check_file() -> Transaction[None]:
    """Reject a file that DatabaseSessionService wrote to. It creates its table of versions even if it only reads."""
    ours = yield _TIMES_ARE_NUMBERS, ()
    if not ours:
        raise StartupFailure(_OTHER_SERVICE)
    mixed = yield f"{_TIMES_AS_TEXT} LIMIT 1", ()
    if mixed:
        raise StartupFailure(_MIXED)


def _check_version() -> Transaction[None]:
    rows = yield _VERSION, ()
    version = rows[0][0] if rows else "unknown"
    if version != "1":
        raise StartupFailure(f"The database has ADK's schema version {version}; this program supports version 1.")


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
        yield _CREATE.format(int=dialect.words["int"]), ()
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


def _apply(now: Micros, dialect: Dialect, migration: Migration) -> Transaction[None]:
    for statement in migration.statements(dialect.words, dialect.engine):
        yield statement, ()
    yield (
        "INSERT INTO session_manager_schema (version, readable_by, applied_at) VALUES ($1, $2, $3)",
        (migration.version, migration.readable_by, now),
    )
