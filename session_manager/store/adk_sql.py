"""The AdkStore (see the Protocol for what each method promises) in terms of transactions."""

from __future__ import annotations

import contextlib
import logging
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkSession, Attempt, Home, NewAdkSession, State
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.domain.session import Session
from session_manager.domain.times import micros
from session_manager.store.adk import AdkPage, AdkQuery, Artifact
from session_manager.store.engine import Engine
from session_manager.store.transactions import (
    adk_adoption,
    adk_append,
    adk_artifacts,
    adk_memory,
    adk_sessions,
    adk_turns,
    installation,
)
from session_manager.store.transactions.adk_checks import check_key
from session_manager.store.transactions.sessions import NO_SESSION

log = logging.getLogger(__name__)

T = TypeVar("T")

_SECRET_BYTES = 32
_AT_ONCE = 200  # sessions adopted in one commit: a few milliseconds of SQLite's one writer


def _default_home(app: str) -> Home:
    return Home("default", micros(86_400))


class AdkSql(Engine):
    _home_of: Callable[[str], Home] = staticmethod(_default_home)

    def adopt_with(self, home_of: Callable[[str], Home]) -> None:
        self._home_of = home_of

    # Sessions

    async def adk_create(self, new: NewAdkSession) -> AdkSession:
        check_key(new.key)
        if await self._read(adk_adoption.is_orphan, new.key):
            await self._reconcile(new.key)  # what was removed from ADK's tables must not stand in the way
        with _about("events" if new.events else "state"):
            return await self._write(adk_sessions.create, new)

    async def adk_record(self, key: AdkKey) -> Session:
        session = await self._read(adk_adoption.find, key) or await self._reconcile(key)
        if session is None:
            raise NotFound(NO_SESSION)
        return session

    async def adk_get(self, key: AdkKey, recent: int | None = None, since: float = 0.0) -> AdkSession:
        async def told() -> AdkSession | None:
            found = await self._read(adk_sessions.get_told, key, recent, since)
            if not isinstance(found, str):
                return found
            await self.adk_catch_up(found)
            return await self._read(adk_sessions.get, key, recent, since)

        return await self._settled(key, told)

    async def adk_list(self, query: AdkQuery) -> AdkPage:
        page = await self._read(adk_sessions.page, query)
        strange: list[adk_adoption.Note] = [(None, session.key) for session in page.sessions if not session.uuid]
        if not strange:
            return page
        for start in range(0, len(strange), _AT_ONCE):
            await self._sweep(strange[start : start + _AT_ONCE])
        page = await self._read(adk_sessions.page, query)
        return AdkPage([session for session in page.sessions if session.uuid], page.next_after)

    async def adk_append(
        self,
        key: AdkKey,
        events: Sequence[AdkEvent],
        *,
        seen: float | None = None,
        attempt: Attempt | None = None,
    ) -> float:
        with _about("events"):
            return await self._settled(key, lambda: self._write(adk_append.append, key, events, seen, attempt))

    async def adk_user_state(self, app: str, user_id: str) -> State:
        return await self._read(adk_sessions.user_state, app, user_id)

    async def adk_behind(self, limit: int) -> list[str]:
        return await self._read(adk_turns.behind, limit)

    async def adk_catch_up(self, *uuids: str) -> None:
        left: Sequence[str] = uuids
        try:
            while left:
                left = await self._write(adk_turns.catch_up, left)
        except (InvalidInput, ValueError):
            if len(left) == 1:
                extra = {"event": "store.adk_lost", "session": left[0]}
                log.exception("ADK's events of turns cannot be stored", extra=extra)
                await self._write(adk_turns.give_up, left[0])
                return
            for uuid in left:
                await self.adk_catch_up(uuid)

    async def adk_sweep(self, limit: int) -> tuple[int, list[str]]:
        found = await self._read(adk_adoption.notes, limit)
        return await self._sweep(found) if found else (0, [])

    async def _sweep(self, found: Sequence[adk_adoption.Note]) -> tuple[int, list[str]]:
        homes = {app: self._home_of(app) for app in {key.app for _, key in found}}
        return await self._write(adk_adoption.sweep, found, [_new_uuid() for _ in found], homes)

    async def _settled(self, key: AdkKey, work: Callable[[], Awaitable[T | None]]) -> T:
        """What ``work`` finds, which is None while our session or ADK's row is missing."""
        found = await work()
        if found is None and await self._reconcile(key) is not None:
            found = await work()
        if found is None:
            raise NotFound(NO_SESSION)
        return found

    async def _reconcile(self, key: AdkKey) -> Session | None:
        session, _ = await self._write(adk_adoption.settle, key, _new_uuid(), self._home_of(key.app))
        return session

    async def secret(self, name: str) -> str:
        found = await self._read(installation.find, name)
        if found is not None:
            return found
        return await self._write(installation.keep, name, secrets.token_urlsafe(_SECRET_BYTES))

    # Artifacts and memory

    async def save_artifact(self, key: AdkKey, artifact: Artifact) -> Artifact:
        uuid = await self._uuid(key)
        return await self._write(adk_artifacts.save, key, uuid, artifact)

    async def artifact_names(self, key: AdkKey) -> list[str]:
        return await self._read(adk_artifacts.names, key, await self._uuid(key))

    async def artifact(self, key: AdkKey, name: str, version: int | None = None) -> Artifact:
        return await self._read(adk_artifacts.get, key, await self._uuid(key), name, version)

    async def artifact_versions(self, key: AdkKey, name: str) -> list[Artifact]:
        return await self._read(adk_artifacts.versions, key, await self._uuid(key), name)

    async def delete_artifact(self, key: AdkKey, name: str) -> None:
        uuid = await self._uuid(key)
        await self._write(adk_artifacts.delete, key, uuid, name)

    async def remember(self, key: AdkKey) -> None:
        uuid = await self._uuid(key)
        await self.adk_catch_up(uuid)
        await self._write(adk_memory.remember, key, uuid)

    async def search_memory(self, app: str, user_id: str, query: str, limit: int) -> list[str]:
        return await self._read(adk_memory.search, app, user_id, query, limit)

    async def _uuid(self, key: AdkKey) -> str:
        return (await self.adk_record(key)).uuid


@contextlib.contextmanager
def _about(field: str) -> Iterator[None]:
    """What the engine refuses is in this field."""
    try:
        yield
    except InvalidInput as error:
        error.field = error.field or field
        raise


def _new_uuid() -> str:
    return str(uuid.uuid4())
