"""Checks existing tables with ADK's names: our layout is made for one ADK service, and others are rejected."""

from __future__ import annotations

from session_manager.domain.errors import StartupFailure
from session_manager.store.transactions.base import Transaction

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
