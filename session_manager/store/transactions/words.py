"""Words in the SQL that look like functions, for everything that the engines spell differently.

``ids($1)`` is the set of strings in a JSON array. ``as_time($1)`` is a parameter in Unix seconds, ``unix(column)`` is
the reverse; ``as_json($1)`` is JSON text. ``for_update()`` ends a SELECT that locks its rows. ``tie(table)`` orders
events of the same time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_WORD = re.compile(r"\b(ids|as_time|unix|as_json|for_update|tie)\(([\w.$]*)\)")

SQLITE = {
    "ids": "(SELECT value FROM json_each({}))",
    "as_time": "{}",
    "unix": "{}",
    "as_json": "{}",
    "for_update": "",
    "tie": "{}.rowid",
}
POSTGRES = {
    "ids": "(SELECT json_array_elements_text({}::json))",
    "as_time": "(to_timestamp({}) AT TIME ZONE 'UTC')",
    "unix": "extract(epoch FROM {})::float8",
    "as_json": "{}::jsonb",
    "for_update": "FOR NO KEY UPDATE",
    "tie": "{}.id",
}


def spelled(sql: str, words: Mapping[str, str]) -> str:
    """Return the statement in the SQL of one engine."""
    return _WORD.sub(lambda found: words[found[1]].format(found[2]), sql)
