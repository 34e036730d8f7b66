"""ADK's shared state: on PostgreSQL a session needs a row of its app and one of its user, on SQLite only where there is
state. An empty one says the same as none.
"""

from __future__ import annotations

from collections.abc import Callable

from session_manager.databases.engine import Engine, Row
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


async def fill_states(engine: Engine) -> None:
    """Rows for what has none, where ADK's layout wants them."""
    for statement in _FILL if engine.dialect.engine == "postgresql" else ():
        await engine.fetch(statement)


def says_something(table: Table) -> Callable[[Row], bool]:
    """Whether a row of the table is more than an empty state."""
    if table.name not in _STATES:
        return lambda _: True
    number = table.names.index("state")
    return lambda row: bool(row[number].strip("{} "))
