"""The links between tables. A conversation is a row with all rows that refer to it; it is merged as a whole.

Most links are foreign keys. The others are listed here, because their rows may also exist alone: ADK's row of a session
has the same key as ours, and artifacts and memories name their session.
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
# These belong to one database: its identity, and its keys to reconcile.
_NOT_MERGED = frozenset({"installation", "adk_note"})


@dataclass(frozen=True, slots=True)
class Links:
    """``tables`` are in an order in which each comes after the tables that it refers to."""

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
        """Return tables whose rows may exist alone: those without a foreign key."""
        return [table for table in self.tables.values() if not table.references]
