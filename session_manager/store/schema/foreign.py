"""Whose tables are there already: those of the ADK service that our layout is made for, or others."""

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
    "The database has the tables of an early ADK version, which kept events in columns of their own. "
    "Convert it with 'adk migrate session' first."
)
_OTHER_SERVICE = (
    "The database file was written by ADK's DatabaseSessionService; a file must have the layout of ADK's "
    "SqliteSessionService. Move it to PostgreSQL, or use another file."
)
_VERSION = "SELECT value FROM adk_internal_metadata WHERE key = 'schema_version'"


def refuse_foreign(engine: str, columns_of: str) -> Transaction[None]:
    """StartupFailure when tables of ADK's names are there in a layout that cannot be used.

    ``columns_of``: gives the columns of the table in $1, none when it is not there.
    """
    found = {}
    for table in (*_COLUMNS, _METADATA):
        rows = yield columns_of, (table,)
        found[table] = {row[0] for row in rows}
    if found["events"] and "event_data" not in found["events"] and "actions" in found["events"]:
        raise StartupFailure(_OLD)
    if found[_METADATA]:
        yield from _check_version(engine)
    for table, needed in _COLUMNS.items():
        if found[table] and not needed <= found[table]:
            raise StartupFailure(f"The database has a table '{table}' that is not one of ADK's. Use another database.")


def _check_version(engine: str) -> Transaction[None]:
    if engine == "sqlite":
        raise StartupFailure(_OTHER_SERVICE)
    rows = yield _VERSION, ()
    version = rows[0][0] if rows else "unknown"
    if version != "1":
        raise StartupFailure(f"The database has ADK's schema version {version}; this program knows version 1.")
