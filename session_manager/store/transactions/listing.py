"""Lists and counts of sessions, by filters and status.

The total is counted in three parts, because a test against the hot ids for every session would cost more than the rest:
what the columns say, less the hot ones among them, plus the hot ones that are wanted.
"""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Collection

from session_manager.domain.session import Session
from session_manager.domain.status import COLD_SQL, Status
from session_manager.store.protocol import SessionPage, SessionQuery
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import SESSION, session_of

_STATUS = " ".join(f"WHEN {predicate} THEN '{status.value}'" for status, predicate in COLD_SQL.items())
_COUNT = f"SELECT CASE {_STATUS} END AS status, count(*) FROM session WHERE deleted_at IS NULL"


class _Where:
    """A WHERE clause under construction, with its numbered parameters."""

    def __init__(self, query: SessionQuery) -> None:
        self.params: list[object] = []
        filters = {"owner": "user_id", "user_id": "user_id", "app": "app", "adk_id": "adk_id"}
        wanted = ((column, getattr(query, name)) for name, column in filters.items())
        conditions = [f"{column} = {self.param(value)}" for column, value in wanted if value is not None]
        self.base = " AND ".join(["deleted_at IS NULL", *conditions])
        self.cold = _cold(query.cold)
        self.hot = self._ids(query.hot_ids)
        self.hot_wanted = self._ids(query.hot_wanted)

    def param(self, value: object) -> str:
        self.params.append(value)
        return f"${len(self.params)}"

    def _ids(self, ids: Collection[str]) -> str | None:
        return f"ids({self.param(_json(ids))})" if ids else None

    def matching(self) -> str:
        """The rows wanted, whether for their columns or for being hot."""
        cold = self.cold if self.hot is None else f"uuid NOT IN {self.hot} AND {self.cold}"
        return cold if self.hot_wanted is None else f"({cold} OR uuid IN {self.hot_wanted})"

    def counting(self) -> str:
        total = f"(SELECT count(*) FROM session WHERE {self.base} AND {self.cold})"
        if self.hot is not None:
            total += f" - (SELECT count(*) FROM session WHERE uuid IN {self.hot} AND {self.base} AND {self.cold})"
        if self.hot_wanted is not None:
            total += f" + (SELECT count(*) FROM session WHERE uuid IN {self.hot_wanted} AND {self.base})"
        return f"SELECT {total}"


def _json(ids: Collection[str]) -> str:
    return json.dumps(sorted(ids))


def _cold(statuses: Collection[Status]) -> str:
    if all(status in statuses for status in COLD_SQL):
        return "(1 = 1)"
    chosen = [f"({predicate})" for status, predicate in COLD_SQL.items() if status in statuses]
    return f"({' OR '.join(chosen)})" if chosen else "(1 = 0)"


def page(query: SessionQuery) -> Transaction[SessionPage]:
    """One page and the total of all pages."""
    where = _Where(query)
    counted = yield where.counting(), tuple(where.params)
    sessions = yield from _rows(query, where)
    more = len(sessions) > query.limit
    shown = sessions[: query.limit]
    return SessionPage(counted[0][0], shown, (shown[-1].created_at, shown[-1].uuid) if more else None)


def _rows(query: SessionQuery, where: _Where) -> Transaction[list[Session]]:
    """One row more than the limit, which tells whether there is a next page."""
    past = ""
    if query.after is not None:
        created_at, uuid = query.after
        past = f"AND (created_at, uuid) < ({where.param(created_at)}, {where.param(uuid)})"
    limit = where.param(query.limit + 1)
    wanted = f"SELECT {SESSION} FROM session WHERE {where.base} AND {where.matching()} {past}"
    rows = yield f"{wanted} ORDER BY created_at DESC, uuid DESC LIMIT {limit}", tuple(where.params)
    return [session_of(row) for row in rows]


def count(among: frozenset[str] | None) -> Transaction[dict[Status, int]]:
    """Sessions by their cold status, zeros included."""
    if among is None:
        rows = yield f"{_COUNT} GROUP BY 1", ()
    else:
        rows = yield f"{_COUNT} AND uuid IN ids($1) GROUP BY 1", (_json(among),)
    return dict.fromkeys(COLD_SQL, 0) | {Status(row[0]): row[1] for row in rows}
