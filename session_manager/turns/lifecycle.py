"""What is done to a session as a whole: wake, sleep, delete, expire."""

from __future__ import annotations

import logging
from typing import Protocol

from session_manager.activity.protocol import SessionGone, TurnActivity
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import NotFound, SessionBusy, Unavailable
from session_manager.domain.mode import AllAuto, Mode, Modes, always_on, suspended
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClasses, class_of
from session_manager.store.protocol import Store

log = logging.getLogger(__name__)


class Remains(Protocol):
    """What the runtime keeps of a session. Asked by front doors that may not own the pods themselves."""

    async def gone(self, session: str) -> bool:
        """No pod and no file of the session is left."""
        ...


class Lifecycle:
    def __init__(
        self,
        store: Store,
        activity: TurnActivity,
        classes: SessionClasses,
        remains: Remains,
        modes: Modes | None = None,
    ) -> None:
        self._store = store
        self._activity = activity
        self._classes = classes
        self._remains = remains
        self._modes = modes or AllAuto()

    async def wake(self, uuid: str, access: Access, keep_awake: float = 0.0) -> bool:
        """Want the pod, and keep it for ``keep_awake`` seconds at least; True when it answers already.

        WrongMode: it is suspended.
        """
        if self._modes.mode(uuid) is Mode.SUSPENDED:
            await self._store.get_session(uuid, access)
            raise suspended()
        session = await self._store.touch_session(uuid, access)
        try:
            return await self._activity.wake(uuid, class_of(self._classes, session.class_name), keep_awake)
        except SessionGone:
            raise NotFound("no such session") from None

    async def sleep(self, uuid: str, access: Access, *, when_idle: bool) -> bool:
        """Put the pod to sleep; False when there was none. SessionBusy while a turn runs or waits.

        WrongMode: it is always on. ``when_idle``: as soon as nothing runs or waits, instead of SessionBusy.
        """
        session = await self._store.get_session(uuid, access)
        if self._modes.mode(uuid) is Mode.ALWAYS_ON:
            raise always_on()
        try:
            answer = await self._activity.fence(uuid, class_of(self._classes, session.class_name), force=True)
            if answer in ("BUSY", "UNSETTLED") and when_idle:
                await self._activity.sleep_when_idle(uuid)
                return True
        except SessionGone:
            raise NotFound("no such session") from None
        if answer == "BUSY":
            raise SessionBusy("a turn runs or waits; ask with ?when=idle to sleep as soon as it is done")
        if answer == "UNSETTLED":
            raise Unavailable("Redis has just come back; ask again in a moment")
        return answer == "PASSED"

    async def delete(self, uuid: str, access: Access) -> None:
        """Commit the end, then tear down. What cannot be torn down now, the sweep repeats."""
        await self._store.delete_session(uuid, access)
        log.info("session deleted", extra={"event": "session.deleted", "session": uuid})
        try:
            await self.tear_down(uuid)
        except Unavailable:
            log.info("teardown put off", extra={"event": "session.teardown_put_off", "session": uuid})

    async def tear_down(self, uuid: str) -> bool:
        """One more try; True when nothing is left but the tombstone. Every step may be repeated."""
        await self._activity.delete(uuid)
        if not await self._remains.gone(uuid):
            return False
        await self._store.purge_session(uuid)
        return True

    async def expire(self, session: Session) -> bool:
        """End a session's runtime side after its TTL, unless something comes in between: then that wins.

        SQL is told last, so that what is cut short is repeated.
        """
        if self._modes.mode(session.uuid) is Mode.ALWAYS_ON:
            await self._store.touch_session(session.uuid, EVERYTHING)
            return False
        session_class = class_of(self._classes, session.class_name)
        try:
            answer = await self._activity.fence(session.uuid, session_class, force=True)
            if answer != "PASSED":
                await self._drop_stale(session)
            if answer in ("BUSY", "UNSETTLED") or not await self._activity.expire(session.uuid):
                return False
        except SessionGone:
            return False
        if not await self._store.expire(session.uuid, session.last_activity):
            return False
        log.info("session expired", extra={"event": "session.expired", "session": session.uuid})
        return True

    async def _drop_stale(self, session: Session) -> None:
        """Inbox entries whose results are in SQL: nobody could tell Redis at that time."""
        session_class = class_of(self._classes, session.class_name)
        for message_id in await self._activity.inbox(session.uuid):
            try:
                message = await self._store.get_message(session.uuid, message_id, EVERYTHING)
            except NotFound:
                message = None
            if message is None or message.finished_at is not None:
                await self._activity.remove(session.uuid, message_id, session_class)
