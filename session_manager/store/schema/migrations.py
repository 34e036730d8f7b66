"""The migrations in order. Each is one SQL file, with one more per engine if the engines have little in common.

``readable_by`` is the oldest version of the code that can use a database of this version. An additive change (a new
table, a column with a default, an index) keeps it, so that a deployment can be rolled back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

# A semicolon in the body of a trigger (BEGIN … END) or a function ($$ … $$), or in a string, ends no statement.
_STATEMENT = re.compile(r"(?:\$\$.*?\$\$|\bBEGIN\b.*?\bEND\b|'[^']*'|[^;])++(?=;)", re.DOTALL)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """``sql`` has statements with the words of ``Dialect`` in braces. ``after`` has more of them, by engine."""

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


def all_migrations() -> Sequence[Migration]:
    """Return all migrations of this version of the code, in ascending order without gaps."""
    return (load(1, 1, "0001_initial"), load(2, 1, "0002_adk", ("sqlite", "postgresql")))
