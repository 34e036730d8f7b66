"""The store's operations, bound to their transactions. Each engine adds how transactions run, and its connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from session_manager.domain.adk.limits import check_events, cleaned_turn
from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.errors import InvalidInput
from session_manager.domain.message import Outcome, StoredEvent
from session_manager.domain.session import Session
from session_manager.store.adk_sql import AdkSql
from session_manager.store.operations import read, write
from session_manager.store.protocol import Store
from session_manager.store.transactions import history, installation, listing, messages, sessions, teardown

log = logging.getLogger(__name__)


class SqlStore(AdkSql, Store):
    """A ``Store`` without a connection; the Protocol documents its methods."""

    ping = read(installation.ping)
    secret = write(installation.secret)

    create_session = write(sessions.create)
    get_session = read(sessions.get)
    list_sessions = read(listing.page)
    count_sessions = read(listing.count)
    rename_session = write(sessions.rename)
    touch_session = write(sessions.touch)
    record_wake = write(sessions.woken)
    record_failure = write(sessions.failed)

    expire = write(teardown.expire)
    delete_session = write(teardown.delete)
    deleted_sessions = read(teardown.deleted)
    reopen_teardowns = write(teardown.reopen)
    drop_tombstones = write(teardown.drop_tombstones)

    accept = write(messages.accept)
    begin_redelivery = write(messages.redeliver)
    record_death = write(messages.died)
    cancel = write(messages.cancel)
    _record = write(messages.record)

    get_message = read(history.get)
    list_messages = read(history.page)
    events = read(history.events)
    backlog = read(history.backlog)
    has_unfinished = read(history.any_unfinished)
    unfinished = read(history.unfinished)
    unfinished_of = read(history.unfinished_in)

    async def expirable(self, limit: int) -> list[Session]:
        return await self._read(teardown.expirable, await self.now(), limit)

    async def purge_session(self, uuid: str) -> None:
        while not await self._write(teardown.purge_some, uuid):
            pass

    async def record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]] = (),
        adk: AdkTurn | None = None,
    ) -> list[StoredEvent] | None:
        for turn in (adk, cleaned_turn(adk)) if adk is not None else ():
            try:
                check_events(turn.events)
                return await self._record(message_id, attempt, outcome, events, turn)
            except InvalidInput as error:
                reason = error.detail
        if adk is not None:
            log.warning("ADK's events of a turn cannot be stored", extra={"event": "store.adk_lost", "reason": reason})
            adk = AdkTurn(None)
        return await self._record(message_id, attempt, outcome, events, adk)
