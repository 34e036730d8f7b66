"""Artifacts: named, versioned parts of a session, or of all sessions of a user in an app."""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from dataclasses import replace

from session_manager.domain.adk.model import USER, AdkKey, AdoptAs
from session_manager.domain.errors import NotFound
from session_manager.domain.session import Session
from session_manager.domain.times import Micros, seconds
from session_manager.store.adk import Artifact
from session_manager.store.transactions import adk_adoption
from session_manager.store.transactions.base import Row, Transaction

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


def save(now: Micros, adopt_as: AdoptAs, key: AdkKey, artifact: Artifact) -> Transaction[Artifact | None]:
    """Return the saved version, or None if there is no such session."""
    located = yield from adk_adoption.locate(now, adopt_as, key)
    if located is None or not (yield _LIVE, (located.record.uuid,)):
        return None
    yield _LOCK, (key.app, key.user_id)
    which = _which(located.record, artifact.name)
    [row] = yield _LAST, which
    saved = replace(artifact, version=0 if row[0] is None else row[0] + 1, created=seconds(now))
    content = (saved.part, saved.mime_type, saved.custom_metadata, saved.created)
    yield _SAVE, (*which, saved.version, *content)
    return saved


def names(session: Session) -> Transaction[list[str]]:
    rows = yield _NAMES, (session.app, session.user_id, session.uuid)
    return [row[0] for row in rows]


def get(session: Session, name: str, version: int | None) -> Transaction[Artifact]:
    which = _which(session, name)
    rows = yield (_LATEST, which) if version is None else (_VERSION, (*which, version))
    if not rows:
        raise NotFound("No such artifact")
    return _artifact(rows[0])


def versions(session: Session, name: str) -> Transaction[list[Artifact]]:
    rows = yield _ALL, _which(session, name)
    return [_artifact(row) for row in rows]


def delete(now: Micros, adopt_as: AdoptAs, key: AdkKey, name: str) -> Transaction[int | None]:
    """Return the number of deleted versions, or None if there is no such session."""
    located = yield from adk_adoption.locate(now, adopt_as, key)
    return None if located is None else len((yield _DELETE, _which(located.record, name)))


def _which(session: Session, name: str) -> tuple[str, str, str, str]:
    return session.app, session.user_id, "" if name.startswith(USER) else session.uuid, name


def _artifact(row: Row) -> Artifact:
    return Artifact(row[0], row[1], row[2], row[3], row[4], row[5])
