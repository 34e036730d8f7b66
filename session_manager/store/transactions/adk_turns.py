"""What turns leave in ADK's events.

A pod that speaks ADK tells of its turn, and that goes into the commit of its result (``add_turn``).  Of any other turn
all that ADK is to know stands in our own tables, so it is written afterwards, for many turns at once (``catch_up``):
``session.adk_told`` is the number of the last of our events whose turn is in ADK's.
"""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

from collections.abc import Sequence

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn
from session_manager.domain.adk.turn import answer_event, user_event
from session_manager.domain.message import Message, Outcome
from session_manager.domain.times import Micros, seconds
from session_manager.store.transactions import adk_rows
from session_manager.store.transactions.adk_times import placed_after
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.rows import MESSAGE, MESSAGE_WIDTH, message_of

AT_ONCE = 200  # turns in one go: a few milliseconds of SQLite's one writer

_IS_BEHIND = "adk_told < last_event AND adk_row = 1 AND deleted_at IS NULL"
_BEHIND = f"SELECT uuid FROM session WHERE {_IS_BEHIND} LIMIT $1"
_THIS_BEHIND = f"SELECT uuid FROM session WHERE app = $1 AND user_id = $2 AND adk_id = $3 AND {_IS_BEHIND}"
_LOCK = f"""
SELECT app, user_id, adk_id, adk_told, last_event FROM session WHERE uuid = $1 AND {_IS_BEHIND} for_update()
"""
_TURNS = f"""
SELECT {MESSAGE}, session_event.number, message.adk_kept
FROM session_event JOIN message ON message.id = session_event.message_id
WHERE session_event.session = $1 AND session_event.number > $2 AND session_event.number <= $3
    AND session_event.kind IN ('turn.processed', 'turn.failed')
ORDER BY session_event.number LIMIT {AT_ONCE}
"""
_TOLD = "UPDATE session SET adk_told = $2 WHERE uuid = $1"


def behind(limit: int) -> Transaction[list[str]]:
    """Sessions with turns that ADK's events do not tell of."""
    rows = yield _BEHIND, (limit,)
    return [row[0] for row in rows]


def is_behind(key: AdkKey) -> Transaction[str | None]:
    """The uuid of that session, if it is one of them."""
    rows = yield _THIS_BEHIND, key
    return rows[0][0] if rows else None


def catch_up(now: Micros, uuid: str) -> Transaction[bool]:
    """Tell of turns that ended, the oldest first; False when there may be more of them."""
    rows = yield _LOCK, (uuid,)
    if not rows:
        return True
    key, told, last = AdkKey(*rows[0][:3]), rows[0][3], rows[0][4]
    updated = yield from adk_rows.lock(key)
    if updated is None:
        return True  # a real service of ADK's has deleted the session, which the next sweep follows
    turns = yield _TURNS, (uuid, told, last)
    events: dict[str, AdkEvent] = {}
    for row in turns:
        for event in _events(message_of(row), key.app, kept=bool(row[MESSAGE_WIDTH + 1])):
            events.setdefault(event.id, event)
    if events:
        placed = placed_after(updated, events.values())
        yield from adk_rows.add_events(key, placed, placed[-1][1])
    whole = len(turns) < AT_ONCE
    yield _TOLD, (uuid, last if whole else turns[-1][MESSAGE_WIDTH])
    return whole


def give_up(now: Micros, uuid: str) -> Transaction[None]:
    """What cannot be told is left out, so that what comes after it can be."""
    rows = yield _LOCK, (uuid,)
    if rows:
        yield _TOLD, (uuid, rows[0][4])


def add_turn(now: Micros, uuid: str, key: AdkKey, turn: AdkTurn, *, kept: bool) -> Transaction[None]:
    """Store what a pod tells of its turn, after all that is there already, and note that our events are told of.

    The session's row is locked. ``kept``: the pod has written to its session itself. Nothing without ADK's row.
    """
    while not (yield from catch_up(now, uuid)):
        pass
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
