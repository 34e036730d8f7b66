"""What turns leave in ADK's events.

A pod that speaks ADK tells of its turn, and that goes into the commit of its result (``add_turn``).  Of any other turn
all that ADK is to know stands in our own tables, so it is written afterwards, for many turns at once (``catch_up``):
``session.adk_told`` is the number of the last of our events whose turn is in ADK's.
"""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn
from session_manager.domain.adk.turn import answer_event, user_event
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros, seconds
from session_manager.store.transactions import adk_rows
from session_manager.store.transactions.adk_times import placed_after
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import MESSAGE, MESSAGE_WIDTH, message_of

AT_ONCE = 200  # turns in one commit: a few milliseconds of SQLite's one writer

_IS_BEHIND = "adk_told < last_event AND adk_row = 1 AND deleted_at IS NULL"
_BEHIND = f"SELECT uuid FROM session WHERE {_IS_BEHIND} LIMIT $1"
_THIS_BEHIND = f"SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND {_IS_BEHIND}"
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
_TOLD = "UPDATE session SET adk_told = $2 WHERE uuid = $1"
_ALL_TOLD = "UPDATE session SET adk_told = last_event WHERE uuid IN ids($1)"


def behind(limit: int) -> Transaction[list[str]]:
    """Sessions with turns that ADK's events do not tell of."""
    rows = yield _BEHIND, (limit,)
    return [row[0] for row in rows]


def is_behind(key: AdkKey) -> Transaction[str | None]:
    """The uuid of that session, if it is one of them."""
    rows = yield _THIS_BEHIND, key
    return rows[0][0] if rows else None


def catch_up(now: Micros, uuids: Sequence[str]) -> Transaction[list[str]]:
    """Tell of turns of these sessions that ended, the oldest first; those of which there may be more.

    A session without ADK's row is passed over: a real service of ADK's has deleted it, which the next sweep follows.
    """
    locked = yield _LOCK, (json.dumps(list(uuids)),)
    found: dict[str, _Behind] = {}
    for row in locked:
        key = AdkKey(row[1], row[2], row[3])
        updated = yield from adk_rows.lock(key)
        if updated is not None:
            found[row[0]] = _Behind(key, updated)
    if not found:
        return []
    turns = yield _TURNS, (json.dumps(list(found)),)
    for row in turns:
        message = message_of(row)
        found[message.session].add(message, kept=bool(row[MESSAGE_WIDTH + 1]))
    told = {uuid: each for uuid, each in found.items() if each.events}
    placed = {uuid: placed_after(each.updated, each.events.values()) for uuid, each in told.items()}
    yield from adk_rows.insert_events([(told[uuid].key, event, at) for uuid in told for event, at in placed[uuid]])
    for uuid, each in told.items():
        yield from adk_rows.settle(each.key, each.events.values(), placed[uuid][-1][1])
    if len(turns) < AT_ONCE:
        yield _ALL_TOLD, (json.dumps(list(found)),)
        return []
    last, number = message_of(turns[-1]).session, turns[-1][MESSAGE_WIDTH]
    whole = [uuid for uuid in told if uuid != last]
    yield _ALL_TOLD, (json.dumps(whole),)
    yield _TOLD, (last, number)
    return [uuid for uuid in found if uuid not in whole]


@dataclass(slots=True)
class _Behind:
    """One session, and what is to be told of it: by the events' ids, in order."""

    key: AdkKey
    updated: float
    events: dict[str, AdkEvent] = field(default_factory=dict)

    def add(self, message: Message, *, kept: bool) -> None:
        for event in _events(message, self.key.app, kept=kept):
            self.events.setdefault(event.id, event)


def give_up(now: Micros, uuid: str) -> Transaction[None]:
    """What cannot be told is left out, so that what comes after it can be."""
    yield _ALL_TOLD, (json.dumps([uuid]),)


def catch_up_whole(now: Micros, uuid: str) -> Transaction[None]:
    left = [uuid]
    while left:
        left = yield from catch_up(now, left)


def add_turn(now: Micros, uuid: str, key: AdkKey, turn: AdkTurn, *, kept: bool) -> Transaction[None]:
    """Store what a pod tells of its turn, after all that is there already, and note that our events are told of.

    The session's row is locked. ``kept``: the pod has written to its session itself. Nothing without ADK's row.
    """
    yield from catch_up_whole(now, uuid)
    updated = yield from adk_rows.lock(key)
    if updated is None:
        return
    events = yield from _unknown(key, turn, kept=kept)
    if events:
        placed = placed_after(updated, events)
        yield from adk_rows.add_events(key, placed, placed[-1][1])


def told(uuid: str, number: int) -> Transaction[None]:
    yield _TOLD, (uuid, number)


def _events(message: Message, app: str, *, kept: bool) -> Sequence[AdkEvent]:
    if message.status is None or message.finished_at is None:
        return ()
    outcome = Outcome(message.status, message.response, message.error)
    answer = answer_event(message, app, outcome, seconds(message.finished_at))
    if kept:  # by the pod, which knows of all but how the turn ended
        return () if message.error is None else (answer,)
    said = user_event(message, answer.invocation_id, seconds(message.accepted_at))
    return said, answer


def _unknown(key: AdkKey, turn: AdkTurn, *, kept: bool) -> Transaction[Sequence[AdkEvent]]:
    """The events of a turn that are to be stored: not those that are, nor the user's where the pod keeps its own."""
    new = yield from adk_rows.unknown(key, turn.events)
    kept = kept or len(new) < len({event.id for event in turn.events})
    return new if turn.user is None or kept else (turn.user, *new)
