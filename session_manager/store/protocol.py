"""The port to the durable facts. One Protocol, one contract suite, an adapter per engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from session_manager.domain.access import Access
from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.message import Accepted, Message, NewMessage, Outcome, StoredEvent, Unfinished
from session_manager.domain.session import Failure, Session
from session_manager.domain.status import Status
from session_manager.domain.times import Micros
from session_manager.store.adk import AdkStore


@dataclass(frozen=True, slots=True)
class NewSession:
    """``ttl`` in microseconds. ``app`` is the class name and ``adk_id`` the uuid for a session made on our door."""

    uuid: str
    user_id: str
    class_name: str
    ttl: Micros
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Filters of a listing; None means any. Newest first by (created_at, uuid).

    ``access`` is what the caller may see, ``user_id`` a filter. ``cold`` are the statuses wanted by
    the SQL half of the status table among sessions *not* in ``hot_ids``; ``hot_wanted`` are ids (some of ``hot_ids``)
    wanted whatever their columns say. ``after`` is the key of the last row of the page before.
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
    """``total`` counts all matches, not only this page. ``next_after`` is None on the last page."""

    total: int
    sessions: list[Session] = field(default_factory=list)
    next_after: tuple[int, str] | None = None


class Store(AdkStore, Protocol):
    """Durable facts. Every method is one transaction, committed and fsynced when it returns.

    Raises StoreUnavailable when the database cannot be reached or is locked for longer than its patience; then nothing
    was written. A session beyond the caller's ``access`` is NotFound.
    """

    @property
    def uri(self) -> str:
        """Where the data lives, without user or password."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def ping(self) -> None: ...
    async def now(self) -> Micros: ...

    async def create_session(self, new: NewSession) -> Session: ...
    async def get_session(self, uuid: str, access: Access) -> Session: ...
    async def list_sessions(self, query: SessionQuery) -> SessionPage: ...
    async def count_sessions(self, among: frozenset[str] | None = None) -> dict[Status, int]:
        """Sessions by their cold status (hot ones as what they would be asleep); all, or only those ``among`` ids."""
        ...

    async def backlog(self) -> tuple[int, Micros | None]:
        """How many messages are unfinished, and when the oldest of them was accepted."""
        ...

    async def rename_session(self, uuid: str, name: str | None, access: Access) -> Session: ...
    async def touch_session(self, uuid: str, access: Access) -> Session:
        """last_activity = now, not expired any more, its failure's next try due at once."""
        ...

    async def record_wake(self, uuid: str) -> None:
        """The pod answered: woken_at is set once, the failure is gone. Unknown or deleted: nothing."""
        ...

    async def record_failure(self, uuid: str, failure: Failure) -> None: ...
    async def expirable(self, limit: int) -> list[Session]:
        """Sessions past expires_at with nothing unfinished, not yet expired; the oldest first."""
        ...

    async def expire(self, uuid: str, last_activity: Micros) -> bool:
        """Mark expired if nothing happened since ``last_activity`` was read and nothing is unfinished."""
        ...

    async def delete_session(self, uuid: str, access: Access) -> None:
        """Set deleted_at; in the same commit every unfinished message of it ends as failed."""
        ...

    async def deleted_sessions(self, limit: int) -> list[str]:
        """Tombstones whose teardown has not finished, oldest first."""
        ...

    async def purge_session(self, uuid: str) -> None:
        """Remove messages and events of a deleted session and note the teardown as finished; the tombstone stays."""
        ...

    async def reopen_teardowns(self) -> None:
        """Every tombstone counts as one whose teardown has not finished: Redis may have forgotten the deletes."""
        ...

    async def drop_tombstones(self, before: Micros) -> int:
        """Remove finished tombstones deleted before then."""
        ...

    async def accept(self, new: NewMessage, access: Access) -> Accepted:
        """Make a message durable with the next seq of its session; touches and revives the session.

        An idempotency key already used by this caller in this session returns that message, ``repeated``, and writes
        nothing; IdempotencyMismatch when its body_hash differs. NotFound when the session is unknown or deleted.
        """
        ...

    async def begin_redelivery(self, message_id: str) -> Message | None:
        """attempt + 1 where unfinished; None when it is finished or unknown."""
        ...

    async def record_death(self, message_id: str, attempt: int) -> int | None:
        """A pod died in this attempt: deaths + 1, returned; None when the attempt is not the open one."""
        ...

    async def record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]] = (),
        adk: AdkTurn | None = None,
    ) -> list[StoredEvent] | None:
        """Record the one result, with its numbered events (kind, JSON text), and touch the session.

        ``adk``: what a pod that speaks ADK told of the turn, for the same commit, after all that is there. A known
        event id is ignored; events that no database can hold are left out rather than keep a turn from ending. Of a
        turn without, ``adk_catch_up`` tells.

        None when the message has a result already, is unknown, or ``attempt`` (unless None) is not the open one.
        """
        ...

    async def get_message(self, session: str, message_id: str, access: Access) -> Message: ...
    async def list_messages(self, session: str, access: Access, limit: int, after_seq: int = 0) -> list[Message]: ...
    async def events(self, session: str, after: int, limit: int) -> list[StoredEvent]: ...
    async def has_unfinished(self) -> bool: ...
    async def unfinished(
        self, accepted_before: Micros, limit: int, after: tuple[str, int] | None = None
    ) -> list[Unfinished]:
        """Unfinished messages of all sessions that are older than that, by (session, seq), past the key ``after``."""
        ...

    async def unfinished_of(self, session: str) -> list[Unfinished]:
        """Unfinished messages of one session by seq."""
        ...
