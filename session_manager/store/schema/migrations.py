"""The migrations, in order: each one SQL file, and one more per engine where they have little in common.

``readable_by`` is the oldest version of the code that can work on a database of this version. An additive change (a new
table, a column with a default, an index) leaves it where it was, so that a deployment can be rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Migration:
    """``sql``: statements, each ended by a semicolon at the end of a line, with the words of ``Dialect`` in braces.

    ``after``: what follows it on one engine, by the engine's name.
    """

    version: int
    readable_by: int
    sql: str
    after: Mapping[str, str] = field(default_factory=dict)

    def statements(self, words: Mapping[str, str], engine: str = "") -> list[str]:
        """The statements for one engine, in order."""
        lines = (self.sql + "\n" + self.after.get(engine, "")).splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
        for word, replacement in words.items():
            text = text.replace("{" + word + "}", replacement)
        return [statement.strip() for statement in text.split(";\n") if statement.strip()]


def load(version: int, readable_by: int, name: str, engines: Sequence[str] = ()) -> Migration:
    """One migration from its files in this package: ``name.sql``, and ``name.engine.sql`` for each of ``engines``."""
    return Migration(version, readable_by, _text(name), {engine: _text(f"{name}.{engine}") for engine in engines})


def _text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


def all_migrations() -> Sequence[Migration]:
    """Every migration of this version of the code, ascending, without gaps."""
    return (load(1, 1, "0001_initial"), load(2, 1, "0002_adk", ("sqlite", "postgresql")))
