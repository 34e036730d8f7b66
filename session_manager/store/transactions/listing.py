"""Lists and counts of sessions, by filters and status.

Whether a hot session is listed does not depend on its columns, so there are two sets of ids: ``wanted`` are added to
the rows that the columns select, ``unwanted`` are removed. The total is counted in the same three parts, because
looking up each of ten thousand sessions among the ids would cost more than everything else.
"""
# ruff: noqa: S608  the SQL is built from constants; values are parameters

from __future__ import annotations

import json
from collections.abc import Collection

from session_manager.domain.access import Right
from session_manager.domain.session import COLD_SQL, Session, Status
from session_manager.store.protocol import SessionPage, SessionQuery
from session_manager.store.transactions.base import SESSION, Transaction, may, session_of

_FILTERS = ("user_id", "app", "adk_id")
_EACH_STATUS = ", ".join(f"count(*) FILTER (WHERE {predicate})" for predicate in COLD_SQL.values())
_COUNT_EACH = f"SELECT {_EACH_STATUS} FROM session WHERE deleted_at IS NULL"


def page(query: SessionQuery) -> Transaction[SessionPage]:
    """Return one page, and the total of all pages."""
    where = _Where(query)
    counted = yield where.total(), tuple(where.params)
    sessions = yield from _rows(query, where)
    shown = sessions[: query.limit]
    more = len(sessions) > query.limit
    return SessionPage(counted[0][0], shown, (shown[-1].created_at, shown[-1].uuid) if more else None)


def count(among: frozenset[str] | None = None) -> Transaction[dict[Status, int]]:
    """Count sessions by their cold status, zeros included."""
    if among is None:
        [row] = yield _COUNT_EACH, ()
    else:
        [row] = yield f"{_named('$1')} {_COUNT_EACH.replace('FROM session', 'FROM named')}", (_json(among),)
    return {status: row[n] for n, status in enumerate(COLD_SQL)}


def _rows(query: SessionQuery, where: _Where) -> Transaction[list[Session]]:
    """Select one row more than the limit, which shows whether there is a next page."""
    past = ""
    if query.after is not None:
        created_at, uuid = query.after
        past = f"AND (created_at, uuid) < ({where.param(created_at)}, {where.param(uuid)})"
    limit = where.param(query.limit + 1)
    rows = yield (
        f"{where.rows(SESSION)} {past} ORDER BY created_at DESC, uuid DESC LIMIT {limit}",
        tuple(where.params),
    )
    return [session_of(row) for row in rows]


class _Where:
    """The conditions of a query, with their numbered parameters. None means a condition that no row meets."""

    def __init__(self, query: SessionQuery) -> None:
        self.params: list[object] = []
        visible, params = may(query.access, Right.READ, 1)
        self.params += params
        values = {name: getattr(query, name) for name in _FILTERS}
        chosen = [f"{name} = {self.param(value)}" for name, value in values.items() if value is not None]
        self.filters = " AND ".join(["deleted_at IS NULL", visible, *chosen])
        self.cold = _cold(query.cold)
        self.wanted = self._ids(query.hot_wanted)
        # If no cold status is wanted, the columns select no row that would have to be removed.
        self.unwanted = self._ids(query.hot_ids - query.hot_wanted) if self.cold else None

    def param(self, value: object) -> str:
        self.params.append(value)
        return f"${len(self.params)}"

    def _ids(self, ids: Collection[str]) -> str | None:
        return self.param(_json(ids)) if ids else None

    def rows(self, columns: str) -> str:
        """Return the SELECT of all wanted rows, without ORDER BY, so that conditions may follow."""
        if self.cold is None:
            return self._of(self.wanted, columns) if self.wanted else f"{self._all(columns)} AND 1 = 0"
        chosen = self.cold if self.wanted is None else f"({self.cold} OR uuid IN ids({self.wanted}))"
        kept = "" if self.unwanted is None else f" AND uuid NOT IN ids({self.unwanted})"
        return f"{self._all(columns)} AND {chosen}{kept}"

    def total(self) -> str:
        parts = [f"({self._all('count(*)')} AND {self.cold or '1 = 0'})"]
        if self.wanted is not None:
            parts.append(f"+ ({self._of(self.wanted, 'count(*)')} AND NOT {self.cold or '(1 = 0)'})")
        if self.unwanted is not None:
            parts.append(f"- ({self._of(self.unwanted, 'count(*)')} AND {self.cold})")
        return f"SELECT {' '.join(parts)}"

    def _all(self, columns: str) -> str:
        return f"SELECT {columns} FROM session WHERE {self.filters}"

    def _of(self, ids: str, columns: str) -> str:
        return f"{_named(ids)} SELECT {columns} FROM named AS session WHERE {self.filters}"


def _named(ids: str) -> str:
    """Return the CTE of the sessions with these ids. Combined with other conditions, planners choose a worse index."""
    return f"WITH named AS MATERIALIZED (SELECT * FROM session WHERE uuid IN ids({ids}))"


def _cold(statuses: Collection[Status]) -> str | None:
    """Return the condition in the shorter of two forms: exactly one predicate of the table holds for a row."""
    inside = [f"({predicate})" for status, predicate in COLD_SQL.items() if status in statuses]
    outside = [f"({predicate})" for status, predicate in COLD_SQL.items() if status not in statuses]
    if not inside:
        return None
    if not outside:
        return "(1 = 1)"
    return f"({' OR '.join(inside)})" if len(inside) <= len(outside) else f"(NOT ({' OR '.join(outside)}))"


def _json(ids: Collection[str]) -> str:
    return json.dumps(sorted(ids))
