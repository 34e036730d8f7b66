"""Words in the SQL that look like functions, for everything that the engines spell differently.

``ids($1)`` is the set of strings in a JSON array. ``as_time($1)`` is a parameter in Unix seconds, ``unix(column)`` is
the reverse; ``as_json($1)`` is JSON text. ``for_update()`` ends a SELECT that locks its rows. ``tie(table)`` orders
events of the same time.
"""

from __future__ import annotations

import re
from functools import cache

_WORD = re.compile(r"\b(ids|as_time|unix|as_json|for_update|tie)\(([\w.$]*)\)")

_SQLITE = {
    "ids": "(SELECT value FROM json_each({}))",
    "as_time": "{}",
    "unix": "{}",
    "as_json": "{}",
    "for_update": "",
    "tie": "{}.rowid",
}
_POSTGRES = {
    "ids": "(SELECT json_array_elements_text({}::json))",
    "as_time": "(to_timestamp({}) AT TIME ZONE 'UTC')",
    "unix": "extract(epoch FROM {})::float8",
    "as_json": "{}::jsonb",
    "for_update": "FOR NO KEY UPDATE",
    "tie": "{}.id",
}


@cache
def in_sqlite(sql: str) -> str:
    """Return the statement in SQLite's SQL."""
    return _WORD.sub(lambda found: _SQLITE[found[1]].format(found[2]), sql).replace("$", "?")


@cache
def in_postgres(sql: str) -> str:
    """Return the statement in PostgreSQL's SQL."""
    return _WORD.sub(lambda found: _POSTGRES[found[1]].format(found[2]), sql)
