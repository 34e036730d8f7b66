"""The data that ADK's other services keep: artifacts, and the searchable memory of a user.

An artifact is a named, versioned part of a session, or of all sessions of a user in an app.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from session_manager.domain.access import EVERYTHING, Access, Right
from session_manager.domain.adk.model import USER, AdkKey, AdoptAs
from session_manager.domain.errors import NotFound
from session_manager.domain.quota import Quotas
from session_manager.domain.session import Session
from session_manager.domain.times import Micros, seconds
from session_manager.store.protocol import Artifact
from session_manager.store.transactions import adk_adoption, adk_turns, usage
from session_manager.store.transactions.base import Transaction, may

_OF = "app = $1 AND user_id = $2 AND session = $3 AND name = $4"
# The session must still exist. Every session has the user's row, so its lock makes versions unique.
_LIVE = "SELECT 1 FROM session WHERE uuid = $1 AND deleted_at IS NULL for_update()"
_LOCK = "SELECT 1 FROM user_states WHERE app_name = $1 AND user_id = $2 for_update()"
_LAST = f"SELECT max(version) FROM artifact WHERE {_OF}"
_SAVE = """
INSERT INTO artifact (app, user_id, session, name, version, part, mime_type, custom_metadata, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
_NAMES = """
SELECT DISTINCT name FROM artifact WHERE app = $1 AND user_id = $2 AND session IN ($3, '') ORDER BY name
"""
_DESCRIBED = "mime_type, custom_metadata, created_at"
_ALL = f"SELECT name, version, '', {_DESCRIBED} FROM artifact WHERE {_OF} ORDER BY version"
_GET = f"SELECT name, version, part, {_DESCRIBED} FROM artifact WHERE {_OF}"
_LATEST = f"{_GET} ORDER BY version DESC LIMIT 1"
_VERSION = f"{_GET} AND version = $5"
_DELETE = f"DELETE FROM artifact WHERE {_OF} RETURNING 1"

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


def save(
    now: Micros, adopt_as: AdoptAs, quotas: Quotas, key: AdkKey, artifact: Artifact, access: Access = EVERYTHING
) -> Transaction[Artifact | None]:
    """Return the saved version, or None if there is no such session. Raises StorageFull over the user's quota."""
    located = yield from adk_adoption.locate(now, adopt_as, key, access)
    if located is None or not (yield _LIVE, (located.record.uuid,)):
        return None
    yield _LOCK, (key.app, key.user_id)
    which = _which(located.record, artifact.name)
    [row] = yield _LAST, which
    saved = replace(artifact, version=0 if row[0] is None else row[0] + 1, created=seconds(now))
    content = (saved.part, saved.mime_type, saved.custom_metadata, saved.created)
    yield _SAVE, (*which, saved.version, *content)
    yield from usage.check_stored(key.user_id, quotas)
    return saved


def names(session: Session) -> Transaction[list[str]]:
    rows = yield _NAMES, (session.app, session.user_id, session.uuid)
    return [row[0] for row in rows]


def get(session: Session, name: str, version: int | None = None) -> Transaction[Artifact]:
    which = _which(session, name)
    rows = yield (_LATEST, which) if version is None else (_VERSION, (*which, version))
    if not rows:
        raise NotFound("No such artifact")
    return Artifact(*rows[0])


def versions(session: Session, name: str) -> Transaction[list[Artifact]]:
    rows = yield _ALL, _which(session, name)
    return [Artifact(*row) for row in rows]


def delete(
    now: Micros, adopt_as: AdoptAs, key: AdkKey, name: str, access: Access = EVERYTHING
) -> Transaction[int | None]:
    """Return the number of deleted versions, or None if there is no such session."""
    located = yield from adk_adoption.locate(now, adopt_as, key, access)
    return None if located is None else len((yield _DELETE, _which(located.record, name)))


def _which(session: Session, name: str) -> tuple[str, str, str, str]:
    return session.app, session.user_id, "" if name.startswith(USER) else session.uuid, name


def remember(
    now: Micros, adopt_as: AdoptAs, quotas: Quotas, key: AdkKey, access: Access = EVERYTHING
) -> Transaction[int | None]:
    """Add the session's new events that contain words. Return their number, or None if there is no such session.

    Raises StorageFull over the user's quota.
    """
    located = yield from adk_adoption.locate(now, adopt_as, key, access)
    if located is None or not (yield _LIVE, (located.record.uuid,)):
        return None
    app, user_id, uuid = key.app, key.user_id, located.record.uuid
    if located.behind:
        yield from adk_turns.catch_up_whole(now, uuid)
        yield usage.REPORT, (uuid,)
    events = yield _EVENTS, (*located.key, uuid)
    added = 0
    for event in events:
        words = words_of(text_of(json.loads(event[2])))
        if words:
            yield _KEEP, (app, user_id, uuid, event[0], event[1], f" {' '.join(words)} ", event[2])
            added += 1
    if added:
        yield from usage.check_stored(key.user_id, quotas)
    return added


def search(app: str, user_id: str, query: str, limit: int, access: Access = EVERYTHING) -> Transaction[list[str]]:
    """Return remembered events. A caller of some classes gets those of sessions that are known to be of its classes."""
    params: list[object] = [app, user_id]
    wanted = []
    for word in [word for word in words_of(query) if len(word) <= LONGEST_WORD][:MOST_WORDS]:
        params.append(f"% {word.replace('_', '!_')} %")
        wanted.append(f"words LIKE ${len(params)} ESCAPE '!'")
    if not wanted:
        return []
    condition, more = may(access, Right.READ, len(params) + 1)
    seen = f"EXISTS (SELECT 1 FROM session WHERE session.uuid = memory.session AND {condition})" if more else condition
    params += [*more, limit]
    sql = f"{_SEARCH} AND ({' OR '.join(wanted)}) AND {seen} ORDER BY timestamp DESC, event_id LIMIT ${len(params)}"
    rows = yield sql, params
    return [row[0] for row in rows]


def words_of(text: str) -> list[str]:
    """Return the distinct words of a text in lower case, sorted."""
    return sorted(set(_WORD.findall(text.lower())))


def text_of(event: Any) -> str:
    """Return the text of all parts of an event."""
    parts = (event.get("content") or {}).get("parts") or []
    return " ".join(part["text"] for part in parts if part.get("text"))
