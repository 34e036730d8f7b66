"""What belongs to what: a conversation is its row and everything that leads to it, and is merged whole or not at all.

Foreign keys say most of it. What they cannot say, since a row may also stand alone, is said here: ADK's row of a
session and ours have one key, and artifacts and memories name the session that they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from session_manager.databases.tables import Reference, Table

_BESIDE_FOREIGN_KEYS: Mapping[str, Reference] = {
    "sessions": Reference(("app_name", "user_id", "id"), "session", ("app", "user_id", "adk_id")),
    "artifact": Reference(("session",), "session", ("uuid",)),
    "memory": Reference(("session",), "session", ("uuid",)),
}
# Of the one database: what it is called, and what it has still to look at.
_NOT_MERGED = frozenset({"installation", "adk_note"})


@dataclass(frozen=True, slots=True)
class Links:
    """``tables`` in an order in which each comes after what it leads to."""

    tables: Mapping[str, Table]

    @classmethod
    def of(cls, tables: list[Table]) -> Links:
        return cls({table.name: table for table in tables if table.name not in _NOT_MERGED})

    def parent(self, table: Table) -> Reference | None:
        return table.references[0] if table.references else _BESIDE_FOREIGN_KEYS.get(table.name)

    def children(self, table: Table) -> list[tuple[Table, Reference]]:
        found = []
        for other in self.tables.values():
            parent = self.parent(other)
            if parent is not None and parent.table == table.name:
                found.append((other, parent))
        return found

    def roots(self) -> list[Table]:
        """Tables whose rows may stand alone: those without a foreign key."""
        return [table for table in self.tables.values() if not table.references]
