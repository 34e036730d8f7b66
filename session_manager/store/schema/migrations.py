"""The migrations, in order, each one SQL file.

``readable_by`` is the oldest version of the code that can work on a database of this version. An additive change (a new
table, a column with a default, an index) leaves it where it was, so that a deployment can be rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Migration:
    """``sql``: statements, each ended by a semicolon at the end of a line, with the words of ``Dialect`` in braces."""

    version: int
    readable_by: int
    sql: str

    def statements(self, words: Mapping[str, str]) -> list[str]:
        """The statements for one engine, in order."""
        text = "\n".join(line for line in self.sql.splitlines() if not line.lstrip().startswith("--"))
        for word, replacement in words.items():
            text = text.replace("{" + word + "}", replacement)
        return [statement.strip() for statement in text.split(";\n") if statement.strip()]


def load(version: int, readable_by: int, name: str) -> Migration:
    """One migration from its file in this package."""
    return Migration(version, readable_by, files(__package__).joinpath(name).read_text("utf-8"))


def all_migrations() -> Sequence[Migration]:
    """Every migration of this version of the code, ascending, without gaps."""
    return (load(1, 1, "0001_initial.sql"),)
