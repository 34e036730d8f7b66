"""``SessionManagerSessionService``: an ADK session service whose sessions are kept by Session Manager."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from pydantic import TypeAdapter
from pydantic_core import to_json
from typing_extensions import override

from session_manager.adk.client import Client, Rejected, base_url

log = logging.getLogger(__name__)

SCHEMES = ("session-manager", "session-manager+http", "session-manager+https")
PAGE = 500  # sessions per request, the maximum
NEXT_CURSOR = "x-next-cursor"
STORED = {"stored": "true"}  # the session as it is stored, with ADK's own markers and credentials, not as REST shows it

_SESSIONS = TypeAdapter(list[Session])


class SessionManagerSessionService(BaseSessionService):
    """``uri``: ``session-manager://host:port`` or ``session-manager+https://…``; without a host $SESSION_MANAGER_URL.

    ``key`` is an API key, by default $SESSION_MANAGER_KEY. During a turn in a session's pod, the turn's token is used
    instead (see ``use_token``); it is valid for that session only. ADK passes ``agents_dir`` and other arguments to
    every service; they are ignored. Raises client.Rejected and httpx.TransportError where ADK has no error of its own.
    """

    def __init__(
        self, uri: str = "session-manager://", agents_dir: str | None = None, key: str | None = None, **_: Any
    ) -> None:
        self._client = Client(base_url(uri), key)

    @override
    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        wanted = session_id.strip() if session_id else None
        path = _path(app_name, "users", user_id, "sessions")
        body = {"sessionId": wanted or None, "state": _stored_state(state or {})}
        try:
            response = await self._client.call("POST", path, to_json(body), STORED)
        except Rejected as refused:
            if refused.status == 409:
                raise AlreadyExistsError(f"Session with id {wanted} already exists.") from None
            raise
        return Session.model_validate_json(response.content)

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        recent = config.num_recent_events if config else None
        since = config.after_timestamp if config else None
        path = _session(app_name, user_id, session_id)
        query = {**STORED, "num_recent_events": recent, "after_timestamp": since or None}
        try:
            response = await self._client.call("GET", path, query=query)
        except Rejected as refused:
            if refused.status == 404:
                return None
            raise
        return Session.model_validate_json(response.content)

    @override
    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        found: dict[tuple[str, str], Session] = {}
        cursor = None
        of_user = () if user_id is None else ("users", user_id)
        path = _path(app_name, *of_user, "sessions")
        while True:
            query = {**STORED, "limit": PAGE, "cursor": cursor}
            response = await self._client.call("GET", path, query=query)
            for session in _SESSIONS.validate_json(response.content):
                # One that has changed since the previous page moves to the end.
                found.pop((session.user_id, session.id), None)
                found[session.user_id, session.id] = session
            cursor = response.headers.get(NEXT_CURSOR)
            if not cursor:
                return ListSessionsResponse(sessions=list(found.values()))

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        await self._client.call("DELETE", _session(app_name, user_id, session_id))

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        response = await self._client.call("GET", _path(app_name, "users", user_id, "state"), query=STORED)
        state: dict[str, Any] = response.json()
        return state

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        path = _session(session.app_name, session.user_id, session.id, "events")
        seen = to_json(session.last_update_time)
        body = b'{"event":%b,"lastUpdateTime":%b}' % (event.model_dump_json(exclude_none=True).encode(), seen)
        try:
            response = await self._client.call("POST", path, body)
        except Rejected as refused:
            raise _append_error(session, refused) from None
        session.last_update_time = response.json()["lastUpdateTime"]
        return self._commit_event_to_session(session, event)

    async def close(self) -> None:
        """Close all connections. The service cannot be used afterwards."""
        self._client.close()


def register() -> None:
    """Register the URI schemes with ADK in this process, which replaces a services.yaml next to the agents."""
    from google.adk.cli.service_registry import get_service_registry  # noqa: PLC0415  all of ADK's command line

    for scheme in SCHEMES:
        get_service_registry().register_session_service(scheme, SessionManagerSessionService)


def _path(app_name: str, *parts: str) -> str:
    return "/".join(["/adk/apps", *(quote(part, safe="") for part in (app_name, *parts))])


def _session(app_name: str, user_id: str, session_id: str, *parts: str) -> str:
    return _path(app_name, "users", user_id, "sessions", session_id.strip(), *parts)


def _stored_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state without temporary keys. Values that are not JSON become text, as in ADK's own services."""
    kept = {key: value for key, value in state.items() if not key.startswith(State.TEMP_PREFIX)}
    try:
        to_json(kept)
    except ValueError:
        log.warning("stored values of the state as text that are not JSON")
        return TypeAdapter(dict[str, Any]).validate_json(to_json(kept, serialize_unknown=True))
    return kept


def _append_error(session: Session, refused: Rejected) -> Exception:
    if refused.status == 404:
        return SessionNotFoundError(f"Session {session.id} not found.")
    if refused.status == 409:
        return StaleSessionError(refused.detail)
    return refused
