"""The ADK events of turns.

A pod that speaks ADK reports its events, and they are stored in the commit of its result (``add_turn``). The events of
all other turns are derived from our own tables afterwards, for many turns at once (``catch_up``): ``session.adk_told``
is the number of our last event whose turn is in ADK's events.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from session_manager.domain.adk.limits import placed_after
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn
from session_manager.domain.adk.turn_events import answer_event, user_event
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros, seconds
from session_manager.store.transactions import adk_rows, usage
from session_manager.store.transactions.base import MESSAGE, MESSAGE_WIDTH, Transaction, message_of

AT_ONCE = 200  # turns in one commit: SQLite's only writer needs a few milliseconds

_IS_BEHIND = "adk_told < last_event AND adk_row = 1 AND deleted_at IS NULL"
_BEHIND = f"SELECT uuid FROM session WHERE {_IS_BEHIND} LIMIT $1"
THIS_BEHIND = f"SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND {_IS_BEHIND}"
_LOCK = f"""
SELECT uuid, app, user_id, adk_id FROM session WHERE uuid IN ids($1) AND {_IS_BEHIND} ORDER BY uuid for_update()
"""
_TURNS = f"""
SELECT {MESSAGE}, session_event.number, message.adk_kept
FROM session JOIN session_event ON session_event.session = session.uuid AND session_event.number > session.adk_told
    JOIN message ON message.id = session_event.message_id
WHERE session.uuid IN ids($1) AND session_event.kind IN ('turn.processed', 'turn.failed')
ORDER BY session.uuid, session_event.number LIMIT {AT_ONCE}
"""
# ADK's events include all turns up to our event of that number.
WRITTEN = "UPDATE session SET adk_told = $2 WHERE uuid = $1 RETURNING bytes - charged"
_GREW = "UPDATE session SET adk_told = last_event, bytes = bytes + $2 WHERE uuid = $1 RETURNING bytes - charged"
_ALL_WRITTEN = "UPDATE session SET adk_told = last_event WHERE uuid IN ids($1)"


def behind(limit: int) -> Transaction[list[str]]:
    """Return sessions with turns that are missing in ADK's events."""
    rows = yield _BEHIND, (limit,)
    return [row[0] for row in rows]


class CaughtUp(NamedTuple):
    """Sessions that may have ``more`` missing events, and sessions that have ``grown`` by a step to report.

    Each of the latter reports in a transaction of its own: they may belong to many users, and two transactions that
    lock the usage of several users could wait for each other.
    """

    more: list[str]
    grown: list[str]


def catch_up(now: Micros, uuids: Sequence[str]) -> Transaction[CaughtUp]:
    """Write the events of ended turns of these sessions, oldest first.

    A session without its ADK row is skipped: a real ADK service has deleted it, and the next sweep closes it.
    """
    locked = yield _LOCK, (json.dumps(list(uuids)),)
    found: dict[str, _Behind] = {}
    for row in locked:
        key = AdkKey(row[1], row[2], row[3])
        updated = yield from adk_rows.lock(key)
        if updated is not None:
            found[row[0]] = _Behind(key, updated)
    if not found:
        return CaughtUp([], [])
    turns = yield _TURNS, (json.dumps(list(found)),)
    for row in turns:
        message = message_of(row)
        found[message.session].add(message, kept=bool(row[MESSAGE_WIDTH + 1]))
    ended = {uuid: each for uuid, each in found.items() if each.events}
    placed = {uuid: placed_after(each.updated, each.events.values()) for uuid, each in ended.items()}
    yield from adk_rows.insert_events([(ended[uuid].key, event, at) for uuid in ended for event, at in placed[uuid]])
    grown: list[str] = []
    for uuid, each in ended.items():
        yield from adk_rows.apply_changes(each.key, each.events.values(), placed[uuid][-1][1])
        [row] = yield _GREW, (uuid, usage.size_of(each.events.values()))
        if row[0] >= usage.STEP:
            grown.append(uuid)
    if len(turns) < AT_ONCE:
        yield _ALL_WRITTEN, (json.dumps([uuid for uuid in found if uuid not in ended]),)
        return CaughtUp([], grown)
    last, number = message_of(turns[-1]).session, turns[-1][MESSAGE_WIDTH]
    yield WRITTEN, (last, number)
    return CaughtUp([uuid for uuid in found if uuid == last or uuid not in ended], grown)


@dataclass(slots=True)
class _Behind:
    """One session with its missing events by id, in order."""

    key: AdkKey
    updated: float
    events: dict[str, AdkEvent] = field(default_factory=dict)

    def add(self, message: Message, *, kept: bool) -> None:
        for event in _events(message, self.key.app, kept=kept):
            self.events.setdefault(event.id, event)


def give_up(now: Micros, uuid: str) -> Transaction[None]:
    """Skip all missing events, so that later ones can be written."""
    yield _ALL_WRITTEN, (json.dumps([uuid]),)


def catch_up_whole(now: Micros, uuid: str) -> Transaction[None]:
    """Write all missing events of one session. The caller reports what it has grown by."""
    left = [uuid]
    while left:
        left = (yield from catch_up(now, left)).more


def add_turn(now: Micros, uuid: str, key: AdkKey, turn: AdkTurn, *, kept: bool) -> Transaction[None]:
    """Store the events that a pod reports of its turn, after all stored events. Does nothing without ADK's row.

    The session's row must be locked. ``kept``: the pod has written to its session itself.
    """
    yield from catch_up_whole(now, uuid)
    updated = yield from adk_rows.lock(key)
    if updated is None:
        return
    events = yield from _unknown(key, turn, kept=kept)
    if events:
        placed = placed_after(updated, events)
        yield from adk_rows.add_events(key, placed, placed[-1][1])
        yield usage.grow(uuid, usage.size_of(events))


def _events(message: Message, app: str, *, kept: bool) -> Sequence[AdkEvent]:
    if message.status is None or message.finished_at is None:
        return ()
    outcome = Outcome(message.status, message.response, message.error)
    answer = answer_event(message, app, outcome, seconds(message.finished_at))
    if kept:  # by the pod, which has written everything except a failure
        return () if message.error is None else (answer,)
    said = user_event(message, answer.invocation_id, seconds(message.accepted_at))
    return said, answer


def _unknown(key: AdkKey, turn: AdkTurn, *, kept: bool) -> Transaction[Sequence[AdkEvent]]:
    """Return the turn's events that are not stored. The user's is left out if the pod keeps its own history."""
    new = yield from adk_rows.unknown(key, turn.events)
    kept = kept or len(new) < len({event.id for event in turn.events})
    return new if turn.user is None or kept else (turn.user, *new)
