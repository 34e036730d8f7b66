"""The store's operations, bound to their transactions. Each engine adds how transactions run, and its connection.

An operation is declared twice: its signature in a Protocol, and its work as a transaction. ``read`` and ``write``
make the transaction a method of the store class: ``get_session = read(sessions.get)``. The method takes the parameters
of the transaction, so that a type checker compares it with the Protocol.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.adk.limits import check_events, cleaned_turn
from session_manager.domain.adk.model import AdkKey, AdkSession, AdkTurn, AdoptAs, ClassAndTtl
from session_manager.domain.errors import InvalidInput, NotFound, StorageFull, StoreUnavailable
from session_manager.domain.message import Outcome, StoredEvent
from session_manager.domain.quota import Quotas
from session_manager.domain.session import Session
from session_manager.domain.session_class import DEFAULT, SessionClass
from session_manager.domain.times import Micros, micros
from session_manager.store.protocol import AdkPage, AdkQuery, Store
from session_manager.store.transactions import (
    adk_adoption,
    adk_artifacts,
    adk_sessions,
    adk_turns,
    listing,
    messages,
    sessions,
    usage,
)
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.sessions import NO_SESSION

_AT_ONCE = 200  # sessions adopted in one commit: SQLite's only writer needs a few milliseconds

_FIND_SHARED = "SELECT value FROM installation WHERE name = $1"
_KEEP_SHARED = "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FORGET_SHARED = "DELETE FROM installation WHERE name = $1"
_PROBE, _PROBE_SIZE = "probe of the disk", 32 * 1024  # bytes, as hexadecimal text

T = TypeVar("T")
P = ParamSpec("P")
Method: TypeAlias = "Callable[Concatenate[SqlStore, P], Coroutine[Any, Any, T]]"

log = logging.getLogger(__name__)


def default_class(app: str) -> ClassAndTtl:
    """Return the default class with its default TTL, whatever the app."""
    return ClassAndTtl(DEFAULT, micros(SessionClass(DEFAULT).ttl))


def read(transaction: Callable[P, Transaction[T]]) -> Method[P, T]:
    """Return a method that runs a transaction that only reads."""

    def run(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._read(transaction, *args, **kwargs)

    return run


def write(transaction: Callable[Concatenate[Micros, P], Transaction[T]]) -> Method[P, T]:
    """Return a method that runs a transaction and commits it. The engine supplies the time."""

    def run(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._write(transaction, *args, **kwargs)

    return run


def limited_write(transaction: Callable[Concatenate[Micros, Quotas, P], Transaction[T]]) -> Method[P, T]:
    """Return a ``write`` that raises QuotaExceeded if a user would have more than their quota."""

    def run(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._write_limited(transaction, self.quotas, *args, **kwargs)

    return run


def limited_adopting_write(
    transaction: Callable[Concatenate[Micros, AdoptAs, Quotas, P], Transaction[T | None]],
) -> Method[P, T]:
    """Return an ``adopting_write`` that raises QuotaExceeded as ``limited_write`` does."""

    async def run(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found = await self._write_limited(transaction, self.adopt_as, self.quotas, *args, **kwargs)
        if found is None:
            raise NotFound(NO_SESSION)
        return found

    return run


def adopting_write(transaction: Callable[Concatenate[Micros, AdoptAs, P], Transaction[T | None]]) -> Method[P, T]:
    """Return a ``write`` on a session of ADK, which is first reconciled with changes of real ADK services.

    A transaction that returns None is committed all the same, and NotFound is raised.
    """

    async def run(self: SqlStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found = await self._write(transaction, self.adopt_as, *args, **kwargs)
        if found is None:
            raise NotFound(NO_SESSION)
        return found

    return run


def _ping() -> Transaction[None]:
    yield "SELECT 1", ()


def _try_to_write(now: Micros) -> Transaction[None]:
    """Write something that needs new pages, and leave nothing behind."""
    yield _KEEP_SHARED, (_PROBE, secrets.token_hex(_PROBE_SIZE))
    yield _FORGET_SHARED, (_PROBE,)


def _find_secret(name: str) -> Transaction[str | None]:
    rows = yield _FIND_SHARED, (name,)
    return rows[0][0] if rows else None


def _make_secret(now: Micros, name: str) -> Transaction[str]:
    yield _KEEP_SHARED, (name, secrets.token_urlsafe(32))
    rows = yield _FIND_SHARED, (name,)
    kept: str = rows[0][0]
    return kept


class SqlStore(Store, ABC):
    """A ``Store`` without a connection; the Protocol documents its methods.

    ``adopt_as`` is for transactions that adopt sessions of real ADK services, ``quotas`` for those that add to what a
    user has.
    """

    adopt_as: AdoptAs
    quotas: Quotas
    _disk_failed = False  # a write was refused, and none has succeeded since
    _swept_note = 0  # the last note of the last sweep: notes that are kept must not block later ones

    @abstractmethod
    async def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a transaction with the database's time as its first argument, and commit it."""

    @abstractmethod
    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction that only reads."""

    async def _write_limited(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a transaction that checks quotas. If too much is stored, say what the user has without its changes."""
        try:
            return await self._write(transaction, *args, **kwargs)
        except StorageFull as error:
            stored = await self._read(usage.stored, error.user)
            raise StorageFull(error.user, error.quota, error.limit, stored) from None

    _ping = read(_ping)

    create_session = limited_write(sessions.create)
    adopt_session = write(sessions.adopt)
    usage = read(usage.of_user)
    get_session = read(sessions.get)
    list_sessions = read(listing.page)
    count_sessions = read(listing.count)
    rename_session = write(sessions.rename)
    touch_session = write(sessions.touch)
    record_wake = write(sessions.woken)
    record_failure = write(sessions.failed)

    expire = write(sessions.expire)
    delete_session = write(sessions.delete)
    deleted_sessions = read(sessions.deleted)
    reopen_teardowns = write(sessions.reopen)
    drop_tombstones = write(sessions.drop_tombstones)

    accept = limited_write(messages.accept)
    begin_redelivery = write(messages.redeliver)
    record_death = write(messages.died)
    cancel = write(messages.cancel)
    _record = write(messages.record)

    get_message = read(messages.find)
    list_messages = read(messages.page)
    events = read(messages.events)
    backlog = read(messages.backlog)
    has_unfinished = read(messages.any_unfinished)
    unfinished = read(messages.unfinished)
    unfinished_of = read(messages.unfinished_in)

    adk_create = limited_adopting_write(adk_sessions.create)
    adk_append = limited_adopting_write(adk_sessions.append)
    adk_change = limited_adopting_write(adk_sessions.change)
    adk_user_state = read(adk_sessions.user_state)
    adk_behind = read(adk_turns.behind)
    save_artifact = limited_adopting_write(adk_artifacts.save)
    delete_artifact = adopting_write(adk_artifacts.delete)
    artifact_names = read(adk_artifacts.names)
    artifact = read(adk_artifacts.get)
    artifact_versions = read(adk_artifacts.versions)
    _remember = limited_adopting_write(adk_artifacts.remember)
    search_memory = read(adk_artifacts.search)
    _reconcile = adopting_write(adk_adoption.record)

    async def ping(self) -> None:
        """After a write that the disk refused, only a write shows that it works again."""
        self._check_disk()
        if self._disk_failed:
            await self._write(_try_to_write)
            self._disk_failed = False
        else:
            await self._ping()

    def _check_disk(self) -> None:
        """Raise StoreCannotWrite if the disk is known to be full. By default only writes show it."""

    async def secret(self, name: str) -> str:
        found = await self._read(_find_secret, name)  # without a write, which only the current writer may do
        return await self._write(_make_secret, name) if found is None else found

    async def expirable(self, limit: int) -> list[Session]:
        return await self._read(sessions.expirable, await self.now(), limit)

    async def purge_session(self, uuid: str) -> None:
        while not await self._write(sessions.purge_some, uuid):
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

    async def adk_record(self, key: AdkKey, access: Access = EVERYTHING) -> Session:
        return await self._read(adk_adoption.find, key, access) or await self._reconcile(key, access)

    async def adk_get(
        self, key: AdkKey, recent: int | None = None, since: float = 0.0, *, access: Access = EVERYTHING
    ) -> AdkSession:
        found = await self._read(adk_sessions.get_current, key, recent, since, access)
        if isinstance(found, AdkSession):
            return found
        if found is None:
            record = await self._reconcile(key, access)
            key, found = key._replace(id=record.adk_id), record.uuid
        await self.adk_catch_up(found)
        session = await self._read(adk_sessions.get, key, recent, since, access)
        if session is None:
            raise NotFound(NO_SESSION)
        return session

    async def adk_list(self, query: AdkQuery) -> AdkPage:
        page = await self._read(adk_sessions.page, query)
        unknown: list[adk_adoption.Note] = [(None, session.key) for session in page.sessions if not session.uuid]
        if not unknown:
            return page
        for start in range(0, len(unknown), _AT_ONCE):
            await self._write(adk_adoption.sweep, self.adopt_as, unknown[start : start + _AT_ONCE])
        page = await self._read(adk_sessions.page, query)
        return AdkPage([session for session in page.sessions if session.uuid], page.next_after)

    async def adk_sweep(self, limit: int) -> tuple[int, list[str]]:
        found = await self._read(adk_adoption.notes, self._swept_note, limit)
        done = await self._write(adk_adoption.sweep, self.adopt_as, found) if found else (0, [])
        numbers = [number for number, _ in found if number is not None]
        self._swept_note = numbers[-1] if len(numbers) == limit else 0
        return done

    async def adk_catch_up(self, *uuids: str) -> None:
        left: Sequence[str] = uuids
        try:
            while left:
                left, grown = await self._write(adk_turns.catch_up, left)
                for uuid in grown:
                    with contextlib.suppress(StoreUnavailable):  # the next message of the session makes up for it
                        await self._write(usage.report, uuid)
        except (InvalidInput, ValueError):
            if len(left) == 1:
                extra = {"event": "store.adk_lost", "session": left[0]}
                log.exception("ADK's events of turns cannot be stored", extra=extra)
                await self._write(adk_turns.give_up, left[0])
                return
            for uuid in left:
                await self.adk_catch_up(uuid)

    async def remember(self, key: AdkKey, access: Access = EVERYTHING) -> int:
        try:
            return await self._remember(key, access)
        except (InvalidInput, ValueError):
            # Events of the last turns may be impossible to store. Catching up leaves those out.
            await self.adk_catch_up((await self.adk_record(key, access)).uuid)
            return await self._remember(key, access)
