"""ADK's shared state. On PostgreSQL each session needs a state row of its app and of its user, even an empty one.

On SQLite these rows exist only if there is state, so an empty row means the same as a missing one.
"""

from __future__ import annotations

from collections.abc import Callable

from session_manager.databases.database import Database, Row
from session_manager.databases.tables import Table

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
