"""The store's operations on ADK's tables, bound to their transactions."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.domain.session import Session
from session_manager.store.adk import AdkPage, AdkQuery, AdkStore, Artifact
from session_manager.store.operations import Runner, adopting_write, read
from session_manager.store.transactions import (
    adk_adoption,
    adk_append,
    adk_artifacts,
    adk_memory,
    adk_sessions,
    adk_turns,
)
from session_manager.store.transactions.sessions import NO_SESSION

log = logging.getLogger(__name__)

_AT_ONCE = 200  # sessions adopted in one commit: SQLite's only writer needs a few milliseconds


class AdkSql(Runner, AdkStore):
    """An ``AdkStore``; the Protocol documents its methods."""

    adk_create = adopting_write(adk_sessions.create)
    adk_append = adopting_write(adk_append.append)
    adk_change = adopting_write(adk_sessions.change)
    adk_user_state = read(adk_sessions.user_state)
    adk_behind = read(adk_turns.behind)
    save_artifact = adopting_write(adk_artifacts.save)
    delete_artifact = adopting_write(adk_artifacts.delete)
    remember = adopting_write(adk_memory.remember)
    search_memory = read(adk_memory.search)
    _reconcile = adopting_write(adk_adoption.record)

    async def adk_record(self, key: AdkKey) -> Session:
        return await self._read(adk_adoption.find, key) or await self._reconcile(key)

    async def adk_get(
        self, key: AdkKey, recent: int | None = None, since: float = 0.0, *, access: Access = EVERYTHING
    ) -> AdkSession:
        found = await self._read(adk_sessions.get_current, key, recent, since, access)
        if isinstance(found, AdkSession):
            return found
        if found is None:
            record = await self._reconcile(key)
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
        found = await self._read(adk_adoption.notes, limit)
        return await self._write(adk_adoption.sweep, self.adopt_as, found) if found else (0, [])

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

    async def artifact_names(self, key: AdkKey) -> list[str]:
        return await self._read(adk_artifacts.names, await self.adk_record(key))

    async def artifact(self, key: AdkKey, name: str, version: int | None = None) -> Artifact:
        return await self._read(adk_artifacts.get, await self.adk_record(key), name, version)

    async def artifact_versions(self, key: AdkKey, name: str) -> list[Artifact]:
        return await self._read(adk_artifacts.versions, await self.adk_record(key), name)
