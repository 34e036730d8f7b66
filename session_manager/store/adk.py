"""The port to what ADK keeps, in ADK's own tables: sessions, state, events; artifacts and memory beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkSession, Attempt, Home, NewAdkSession, State
from session_manager.domain.session import Session


@dataclass(frozen=True, slots=True)
class AdkQuery:
    """Oldest update first, as ADK lists. ``user_id`` None: of all users. ``after`` is the key of the last row before.

    ``limit`` None: all. ``id_prefix_hidden``: sessions whose id begins so are left out.
    """

    app: str
    user_id: str | None = None
    after: tuple[float, str, str] | None = None
    limit: int | None = None
    id_prefix_hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdkPage:
    """Sessions without events, with their merged state. ``next_after`` (update time, user, id): None on the last."""

    sessions: list[AdkSession] = field(default_factory=list)
    next_after: tuple[float, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """One version, from 0 on. ``part`` and ``custom_metadata`` are JSON text; ``created`` in Unix seconds."""

    name: str
    version: int
    part: str
    mime_type: str | None
    custom_metadata: str
    created: float


class AdkStore(Protocol):
    """Every method is one transaction, like those of ``Store``. NotFound: no such live session.

    A row that a real ADK service made becomes a session of ours at first sight: ``adk_record``, ``adk_get`` and
    ``adk_append`` make what is missing; one whose row such a service removed is closed.
    """

    def adopt_with(self, home_of: Callable[[str], Home]) -> None:
        """Which class and TTL a session gets that a real ADK service made for this app; the class default else."""
        ...

    async def adk_create(self, new: NewAdkSession) -> AdkSession:
        """Ours and ADK's rows in one commit. Conflict: the id is taken, and nothing was written."""
        ...

    async def adk_record(self, key: AdkKey) -> Session:
        """Our record of the session that ADK calls by this key."""
        ...

    async def adk_get(self, key: AdkKey, recent: int | None = None, since: float = 0.0) -> AdkSession:
        """``recent``: only the last N events (0: none). ``since``: only those at that time or later."""
        ...

    async def adk_list(self, query: AdkQuery) -> AdkPage: ...

    async def adk_append(
        self,
        key: AdkKey,
        events: Sequence[AdkEvent],
        *,
        seen: float | None = None,
        attempt: Attempt | None = None,
    ) -> float:
        """Store events and their deltas; the new update time. A known event id is ignored.

        ``seen``: the update time that the writer knows; StaleSession when it is older than the stored one.
        ``attempt``: Forbidden unless this attempt of a message of this session is open, in the same commit.
        """
        ...

    async def adk_user_state(self, app: str, user_id: str) -> State: ...

    async def adk_sweep(self, limit: int) -> tuple[int, list[str]]:
        """Adopt rows that real ADK services made, close sessions whose rows they removed: (adopted, closed uuids)."""
        ...

    async def adk_behind(self, limit: int) -> list[str]:
        """Sessions with turns that ADK's events do not tell of yet: those of pods that do not speak ADK."""
        ...

    async def adk_catch_up(self, *uuids: str) -> None:
        """Tell of them. What no database can hold is left out, and the log says so."""
        ...

    async def secret(self, name: str) -> str:
        """A random secret of this installation, the same for all front doors; made when it is first asked for."""
        ...

    # Artifacts belong to a session, but those whose names begin with ``user:`` to all sessions of the user in the app.

    async def save_artifact(self, key: AdkKey, artifact: Artifact) -> Artifact:
        """The next version of that name; ``version`` and ``created`` of the argument are not looked at."""
        ...

    async def artifact_names(self, key: AdkKey) -> list[str]: ...
    async def artifact(self, key: AdkKey, name: str, version: int | None = None) -> Artifact:
        """The latest version where none is named. NotFound."""
        ...

    async def artifact_versions(self, key: AdkKey, name: str) -> list[Artifact]:
        """Without their parts, oldest first; empty when there are none."""
        ...

    async def delete_artifact(self, key: AdkKey, name: str) -> None: ...

    async def remember(self, key: AdkKey) -> None:
        """The session's events so far belong to what is searched as its user's memory."""
        ...

    async def search_memory(self, app: str, user_id: str, query: str, limit: int) -> list[str]:
        """``data`` of remembered events with a word of the query in their text, newest first."""
        ...
