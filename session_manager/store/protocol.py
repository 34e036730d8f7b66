"""The ports to the durable facts, by subject. One contract suite checks the adapter of each engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.adk.model import (
    AdkEvent,
    AdkKey,
    AdkSession,
    AdkTurn,
    CreatedAdkSession,
    NewAdkSession,
    State,
)
from session_manager.domain.message import Accepted, Cancelled, Message, NewMessage, Outcome, StoredEvent, Unfinished
from session_manager.domain.quota import Usage
from session_manager.domain.session import Failure, Session, Status
from session_manager.domain.times import Micros

ANY_SIZE = 2**62  # characters; a page of this size has no bound but the number of its rows


@dataclass(frozen=True, slots=True)
class AdkQuery:
    """A listing, least recently updated first, as in ADK. ``after`` is the key of the last row of the previous page.

    ``access`` is to all sessions of the app or to those of one user; any other has none here. None as ``limit`` means
    all rows. Sessions whose id begins with a prefix in ``id_prefix_hidden`` are left out. ``size``: characters of state
    after which a page ends.
    """

    app: str
    access: Access
    after: tuple[float, str, str] | None = None
    limit: int | None = None
    id_prefix_hidden: tuple[str, ...] = ()
    size: int = ANY_SIZE


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

    Methods that add to what a user stores raise StorageFull if it becomes too much.

    A row that a real ADK service created becomes a session on first use, and a session whose row such a service removed
    is closed. All methods that take a key do this, and so do ``adk_list`` and ``adk_sweep``.
    """

    async def adk_create(self, new: NewAdkSession) -> CreatedAdkSession:
        """Create our row and ADK's in one commit. Raises Conflict if the id is taken."""

    async def adk_record(self, key: AdkKey, access: Access = EVERYTHING) -> Session:
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

    async def adk_change(self, key: AdkKey, events: Sequence[AdkEvent], access: Access = EVERYTHING) -> AdkSession:
        """Append as ``adk_append`` does, and return the session with all events as of that commit."""

    async def adk_user_state(self, app: str, user_id: str) -> State: ...

    async def adk_sweep(self, limit: int) -> tuple[int, list[str]]:
        """Reconcile with changes of real ADK services. Return the number of adopted sessions and the closed uuids."""

    async def adk_behind(self, limit: int) -> list[str]:
        """Return sessions with turns whose ADK events are not written yet. Pods that speak ADK never cause this."""

    async def adk_catch_up(self, *uuids: str) -> None:
        """Write the missing events of these sessions. Events that no database can store are logged and left out."""

    # Artifacts belong to a session, except those whose names begin with ``user:``: all sessions of the user share them.

    async def save_artifact(self, key: AdkKey, artifact: Artifact, access: Access = EVERYTHING) -> Artifact:
        """Save and return the next version of that name. ``version`` and ``created`` of the argument are ignored."""

    async def artifact_names(self, session: Session) -> list[str]: ...
    async def artifact(self, session: Session, name: str, version: int | None = None) -> Artifact:
        """Return a version, by default the latest. Raises NotFound."""

    async def artifact_versions(self, session: Session, name: str) -> list[Artifact]:
        """Return all versions without their parts, oldest first."""

    async def delete_artifact(self, key: AdkKey, name: str, access: Access = EVERYTHING) -> int:
        """Delete all versions of that name, and return their number."""

    async def remember(self, key: AdkKey, access: Access = EVERYTHING) -> int:
        """Add the session's events so far to the searchable memory of its user. Return the number of new ones."""

    async def search_memory(
        self, app: str, user_id: str, query: str, limit: int, access: Access = EVERYTHING
    ) -> list[str]:
        """Return the ``data`` of remembered events that contain a word of the query, newest first."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create from our own API: in ADK its app is the class name, and its id the uuid.

    ``ttl`` is in microseconds.
    """

    uuid: str
    user_id: str
    class_name: str
    ttl: Micros
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A listing, newest first by (created_at, uuid). None as a filter means any.

    ``access`` limits what the caller sees; ``user_id`` is a filter. ``cold`` are the wanted statuses of sessions that
    are not in ``hot_ids``, as SQL knows them. ``hot_wanted`` are ids of ``hot_ids`` that are wanted whatever their
    columns say. ``after`` is the key of the last row of the previous page.
    """

    access: Access
    user_id: str | None = None
    app: str | None = None
    adk_id: str | None = None
    cold: frozenset[Status] = frozenset()
    hot_ids: frozenset[str] = frozenset()
    hot_wanted: frozenset[str] = frozenset()
    after: tuple[int, str] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class SessionPage:
    """One page. ``total`` counts all matches on all pages. ``next_after`` is None on the last page."""

    total: int
    sessions: list[Session] = field(default_factory=list)
    next_after: tuple[int, str] | None = None


class SessionStore(Protocol):
    """Sessions, from their creation to the removal of their tombstones."""

    async def create_session(self, new: NewSession) -> Session:
        """Create a session. Raises QuotaExceeded if its user has as many as they may have, or stores too much."""

    async def adopt_session(self, new: NewSession) -> Session:
        """Create a session that exists elsewhere already, whatever the quota of its user is."""

    async def usage(self, user: str) -> Usage:
        """Return what the user has. The bytes lack what each session grew by since it last reported them."""

    async def get_session(self, uuid: str, access: Access) -> Session: ...
    async def list_sessions(self, query: SessionQuery) -> SessionPage: ...
    async def count_sessions(self, among: frozenset[str] | None = None) -> dict[Status, int]:
        """Count sessions by the status that they have when asleep: all, or only those in ``among``."""

    async def rename_session(self, uuid: str, name: str | None, access: Access) -> Session: ...
    async def touch_session(self, uuid: str, access: Access) -> Session:
        """Set the last activity to now, revive an expired session, and make the next try of a failed one due."""

    async def record_wake(self, uuid: str) -> None:
        """Record that the pod answers: set ``woken_at`` once, and clear the failure. Ignores an unknown session."""

    async def record_failure(self, uuid: str, failure: Failure) -> None: ...
    async def expirable(self, limit: int) -> list[Session]:
        """Return sessions to expire, oldest first: past ``expires_at``, not expired, with nothing unfinished."""

    async def expire(self, uuid: str, last_activity: Micros) -> bool:
        """Expire the session, unless it has been active since ``last_activity`` or has an unfinished message."""

    async def delete_session(self, uuid: str, access: Access) -> None:
        """Mark the session as deleted, and end its unfinished messages as failed in the same commit."""

    async def deleted_sessions(self, limit: int) -> list[str]:
        """Return tombstones whose teardown has not finished, oldest first."""

    async def purge_session(self, uuid: str) -> None:
        """Remove messages and events of a deleted session and mark its teardown as finished. The tombstone stays."""

    async def reopen_teardowns(self) -> None:
        """Mark all teardowns as unfinished, because Redis may have lost the deletes."""

    async def drop_tombstones(self, before: Micros) -> int:
        """Remove tombstones of sessions that were deleted before that time and whose teardown has finished."""


class MessageStore(Protocol):
    """Messages, their attempts and results, and the numbered events of sessions."""

    async def accept(self, new: NewMessage, access: Access) -> Accepted:
        """Store a message with the next seq of its session. This touches and revives the session.

        An idempotency key that this caller used before in this session returns that message as ``repeated`` and writes
        nothing. Raises IdempotencyMismatch if its ``body_hash`` differs, NotFound if there is no such session,
        QueueFull for a message that would wait behind too many, and StorageFull if its user stores too much.
        """

    async def begin_redelivery(self, message_id: str) -> Message | None:
        """Increment the attempt and return the message, or None if it is finished or unknown."""

    async def record_death(self, message_id: str, attempt: int) -> int | None:
        """Count the death of a pod in this attempt. Return all deaths, or None if the attempt is not open."""

    async def record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]] = (),
        adk: AdkTurn | None = None,
    ) -> list[StoredEvent] | None:
        """Store the one result with its events (kind, JSON text), and touch the session.

        Returns the numbered events, or None if the message has a result, is unknown, or ``attempt`` is not the open
        one. An attempt of None matches any.

        ``adk`` are ADK's events of the turn, for the same commit, after all stored events. Known ids are ignored, and
        events that no database can store are left out. ``adk_catch_up`` writes the events of a turn without ``adk``.
        """

    async def cancel(self, session: str, message_id: str, access: Access) -> Cancelled:
        """End an unfinished message as failed. Raises NotFound, or Conflict if it has ended."""

    async def get_message(self, session: str, message_id: str, access: Access) -> Message: ...
    async def list_messages(
        self, session: str, access: Access, limit: int, after_seq: int = 0, size: int = ANY_SIZE
    ) -> list[Message]:
        """Return messages in order of their seq, as long as those before it have fewer than ``size`` characters."""
        ...

    async def events(self, session: str, after: int, limit: int) -> list[StoredEvent]: ...
    async def backlog(self) -> tuple[int, Micros | None]:
        """Return the number of unfinished messages, and the time when the oldest one was accepted."""

    async def has_unfinished(self) -> bool: ...
    async def unfinished(
        self, accepted_before: Micros, limit: int, after: tuple[str, int] | None = None
    ) -> list[Unfinished]:
        """Return older unfinished messages of all sessions, ordered by (session, seq), after the key ``after``."""

    async def unfinished_of(self, session: str) -> list[Unfinished]:
        """Return the unfinished messages of one session by seq."""


class Store(SessionStore, MessageStore, AdkStore, Protocol):
    """All durable facts. A method that writes is committed and fsynced when it returns, and does nothing after that.

    Methods raise StoreUnavailable if the database cannot be reached, or is locked for longer than its patience; then
    nothing was written. They raise NotFound for a session outside the caller's ``access``.
    """

    @property
    def uri(self) -> str:
        """Return the address of the database without user and password."""

    async def start(self) -> None:
        """Connect, and upgrade the schema to this version.

        Raises StartupFailure if trying again is useless, StoreUnavailable if it is not.
        """

    async def close(self) -> None: ...
    async def ping(self) -> None: ...
    async def now(self) -> Micros: ...
    async def secret(self, name: str) -> str:
        """Return a random secret that all front doors of this installation share. The first call creates it."""
