"""The port to ADK's tables: sessions, state and events, with artifacts and memory beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkSession, CreatedAdkSession, NewAdkSession, State
from session_manager.domain.session import Session


@dataclass(frozen=True, slots=True)
class AdkQuery:
    """A listing, least recently updated first, as in ADK. ``after`` is the key of the last row of the previous page.

    None as ``user_id`` means all users, None as ``limit`` all rows. Sessions whose id begins with a prefix in
    ``id_prefix_hidden`` are left out.
    """

    app: str
    user_id: str | None = None
    after: tuple[float, str, str] | None = None
    limit: int | None = None
    id_prefix_hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdkPage:
    """Sessions with their merged state and without events. ``next_after`` is None on the last page."""

    sessions: list[AdkSession] = field(default_factory=list)
    next_after: tuple[float, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version; the first is 0. ``part`` and ``custom_metadata`` are JSON text, ``created`` is in Unix seconds."""

    name: str
    version: int
    part: str
    mime_type: str | None
    custom_metadata: str
    created: float


class AdkStore(Protocol):
    """ADK's view of sessions. Methods raise NotFound if no live session has the key, with or without outer spaces.

    A row that a real ADK service created becomes a session on first use, and a session whose row such a service removed
    is closed. All methods that take a key do this, and so do ``adk_list`` and ``adk_sweep``.
    """

    async def adk_create(self, new: NewAdkSession) -> CreatedAdkSession:
        """Create our row and ADK's in one commit. Raises Conflict if the id is taken."""

    async def adk_record(self, key: AdkKey) -> Session:
        """Return our record of the session."""

    async def adk_get(
        self, key: AdkKey, recent: int | None = None, since: float = 0.0, *, access: Access = EVERYTHING
    ) -> AdkSession:
        """Return the session with the last ``recent`` events (0: none) from the time ``since`` on.

        Raises Forbidden if ``access`` is that of another session's turn, or of a turn that has ended.
        """

    async def adk_list(self, query: AdkQuery) -> AdkPage: ...

    async def adk_append(
        self, key: AdkKey, events: Sequence[AdkEvent], *, seen: float | None = None, access: Access = EVERYTHING
    ) -> float:
        """Store events and their changes of state, and return the new update time. Known event ids are ignored.

        ``seen`` is the update time that the writer knows; raises StaleSession if it is older than the stored one.
        Raises Forbidden as ``adk_get`` does.
        """

    async def adk_change(self, key: AdkKey, events: Sequence[AdkEvent]) -> AdkSession:
        """Append as ``adk_append`` does, and return the session with all events as of that commit."""

    async def adk_user_state(self, app: str, user_id: str) -> State: ...

    async def adk_sweep(self, limit: int) -> tuple[int, list[str]]:
        """Reconcile with changes of real ADK services. Return the number of adopted sessions and the closed uuids."""

    async def adk_behind(self, limit: int) -> list[str]:
        """Return sessions with turns whose ADK events are not written yet. Pods that speak ADK never cause this."""

    async def adk_catch_up(self, *uuids: str) -> None:
        """Write the missing events of these sessions. Events that no database can store are logged and left out."""

    # Artifacts belong to a session, except those whose names begin with ``user:``: all sessions of the user share them.

    async def save_artifact(self, key: AdkKey, artifact: Artifact) -> Artifact:
        """Save and return the next version of that name. ``version`` and ``created`` of the argument are ignored."""

    async def artifact_names(self, key: AdkKey) -> list[str]: ...
    async def artifact(self, key: AdkKey, name: str, version: int | None = None) -> Artifact:
        """Return a version, by default the latest. Raises NotFound."""

    async def artifact_versions(self, key: AdkKey, name: str) -> list[Artifact]:
        """Return all versions without their parts, oldest first."""

    async def delete_artifact(self, key: AdkKey, name: str) -> int:
        """Delete all versions of that name, and return their number."""

    async def remember(self, key: AdkKey) -> int:
        """Add the session's events so far to the searchable memory of its user. Return the number of new ones."""

    async def search_memory(self, app: str, user_id: str, query: str, limit: int) -> list[str]:
        """Return the ``data`` of remembered events that contain a word of the query, newest first."""
