"""The Store in terms of transactions."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence

from session_manager.domain.access import Access
from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.errors import InvalidInput
from session_manager.domain.message import Accepted, Message, NewMessage, Outcome, StoredEvent, Unfinished
from session_manager.domain.session import Failure, Session
from session_manager.domain.status import Status
from session_manager.domain.times import Micros
from session_manager.store.adk_sql import AdkSql
from session_manager.store.protocol import NewSession, SessionPage, SessionQuery
from session_manager.store.transactions import history, listing, messages, sessions, teardown
from session_manager.store.transactions.adk_checks import check_events, storable

log = logging.getLogger(__name__)


class SqlStore(AdkSql):
    """A ``Store`` (see the Protocol for what each method promises) over ``_write`` and ``_read``."""

    @property
    @abstractmethod
    def uri(self) -> str: ...

    @abstractmethod
    async def start(self) -> None:
        """Connect and bring the schema to this version. StartupFailure: in vain. StoreUnavailable: try again."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def ping(self) -> None: ...

    @abstractmethod
    async def now(self) -> Micros: ...

    # Sessions

    async def create_session(self, new: NewSession) -> Session:
        return await self._write(sessions.create, new)

    async def get_session(self, uuid: str, access: Access) -> Session:
        return await self._read(sessions.get, uuid, access)

    async def list_sessions(self, query: SessionQuery) -> SessionPage:
        return await self._read(listing.page, query)

    async def count_sessions(self, among: frozenset[str] | None = None) -> dict[Status, int]:
        return await self._read(listing.count, among)

    async def rename_session(self, uuid: str, name: str | None, access: Access) -> Session:
        return await self._write(sessions.rename, uuid, name, access)

    async def touch_session(self, uuid: str, access: Access) -> Session:
        return await self._write(sessions.touch, uuid, access)

    async def record_wake(self, uuid: str) -> None:
        await self._write(sessions.woken, uuid)

    async def record_failure(self, uuid: str, failure: Failure) -> None:
        await self._write(sessions.failed, uuid, failure)

    # Their end

    async def expirable(self, limit: int) -> list[Session]:
        return await self._read(teardown.expirable, await self.now(), limit)

    async def expire(self, uuid: str, last_activity: Micros) -> bool:
        return await self._write(teardown.expire, uuid, last_activity)

    async def delete_session(self, uuid: str, access: Access) -> None:
        await self._write(teardown.delete, uuid, access)

    async def deleted_sessions(self, limit: int) -> list[str]:
        return await self._read(teardown.deleted, limit)

    async def purge_session(self, uuid: str) -> None:
        while not await self._write(teardown.purge_some, uuid):
            pass

    async def reopen_teardowns(self) -> None:
        await self._write(teardown.reopen)

    async def drop_tombstones(self, before: Micros) -> int:
        return await self._write(teardown.drop_tombstones, before)

    # Messages

    async def accept(self, new: NewMessage, access: Access) -> Accepted:
        return await self._write(messages.accept, new, access)

    async def begin_redelivery(self, message_id: str) -> Message | None:
        return await self._write(messages.redeliver, message_id)

    async def record_death(self, message_id: str, attempt: int) -> int | None:
        return await self._write(messages.died, message_id, attempt)

    async def record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]] = (),
        adk: AdkTurn | None = None,
    ) -> list[StoredEvent] | None:
        if adk is not None:
            for turn in (adk, storable(adk)):
                try:
                    check_events(turn.events)
                    return await self._record(message_id, attempt, outcome, events, turn)
                except InvalidInput as error:
                    reason = error.detail
            log.warning("ADK's events of a turn cannot be stored", extra={"event": "store.adk_lost", "reason": reason})
            adk = AdkTurn(None)
        return await self._record(message_id, attempt, outcome, events, adk)

    async def _record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]],
        adk: AdkTurn | None,
    ) -> list[StoredEvent] | None:
        return await self._write(messages.record, message_id, attempt, outcome, events, adk)

    async def get_message(self, session: str, message_id: str, access: Access) -> Message:
        return await self._read(history.get, session, message_id, access)

    async def list_messages(self, session: str, access: Access, limit: int, after_seq: int = 0) -> list[Message]:
        return await self._read(history.page, session, access, limit, after_seq)

    async def events(self, session: str, after: int, limit: int) -> list[StoredEvent]:
        return await self._read(history.events, session, after, limit)

    async def backlog(self) -> tuple[int, Micros | None]:
        return await self._read(history.backlog)

    async def has_unfinished(self) -> bool:
        return await self._read(history.any_unfinished)

    async def unfinished(
        self, accepted_before: Micros, limit: int, after: tuple[str, int] | None = None
    ) -> list[Unfinished]:
        return await self._read(history.unfinished, accepted_before, limit, after)

    async def unfinished_of(self, session: str) -> list[Unfinished]:
        return await self._read(history.unfinished_in, session)
