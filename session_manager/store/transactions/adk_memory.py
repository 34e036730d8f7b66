"""The searchable memory of a user: events of their sessions, by word."""

from __future__ import annotations

import json
import re
from typing import Any

from session_manager.domain.adk.model import AdkKey, AdoptAs
from session_manager.domain.times import Micros
from session_manager.store.transactions import adk_adoption, adk_turns
from session_manager.store.transactions.base import Transaction

MOST_WORDS = 50  # of a query; the others are ignored
LONGEST_WORD = 1000  # characters; SQLite rejects patterns of more than 50,000 bytes

_WORD = re.compile(r"\w+")
_EVENTS = """
SELECT id, unix(timestamp), event_data FROM events
WHERE app_name = $1 AND user_id = $2 AND session_id = $3
AND id NOT IN (SELECT event_id FROM memory WHERE app = $1 AND memory.user_id = $2 AND session = $4)
"""
_KEEP = """
INSERT INTO memory (app, user_id, session, event_id, timestamp, words, data) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
"""
_SEARCH = "SELECT data FROM memory WHERE app = $1 AND user_id = $2"
_LIVE = "SELECT 1 FROM session WHERE uuid = $1 AND deleted_at IS NULL for_update()"


def remember(now: Micros, adopt_as: AdoptAs, key: AdkKey) -> Transaction[int | None]:
    """Add the session's new events that contain words. Return their number, or None if there is no such session."""
    located = yield from adk_adoption.locate(now, adopt_as, key)
    if located is None or not (yield _LIVE, (located.record.uuid,)):
        return None
    app, user_id, uuid = key.app, key.user_id, located.record.uuid
    if located.behind:
        yield from adk_turns.catch_up_whole(now, uuid)
    events = yield _EVENTS, (*located.key, uuid)
    added = 0
    for event in events:
        words = words_of(text_of(json.loads(event[2])))
        if words:
            yield _KEEP, (app, user_id, uuid, event[0], event[1], f" {' '.join(words)} ", event[2])
            added += 1
    return added


def search(app: str, user_id: str, query: str, limit: int) -> Transaction[list[str]]:
    params: list[object] = [app, user_id]
    wanted = []
    for word in [word for word in words_of(query) if len(word) <= LONGEST_WORD][:MOST_WORDS]:
        params.append(f"% {word.replace('_', '!_')} %")
        wanted.append(f"words LIKE ${len(params)} ESCAPE '!'")
    if not wanted:
        return []
    params.append(limit)
    sql = f"{_SEARCH} AND ({' OR '.join(wanted)}) ORDER BY timestamp DESC, event_id LIMIT ${len(params)}"
    rows = yield sql, params
    return [row[0] for row in rows]


def words_of(text: str) -> list[str]:
    """Return the distinct words of a text in lower case, sorted."""
    return sorted(set(_WORD.findall(text.lower())))


def text_of(event: Any) -> str:
    """Return the text of all parts of an event."""
    parts = (event.get("content") or {}).get("parts") or []
    return " ".join(part["text"] for part in parts if part.get("text"))
