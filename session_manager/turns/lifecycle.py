"""Actions on a whole session: wake, sleep, delete, expire."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from session_manager.activity.protocol import Fenced, SessionGone, Woken
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import NotFound, SessionBusy, Unavailable
from session_manager.domain.mode import Mode, always_on, suspended
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClass, class_of_session
from session_manager.turns.kit import Kit

log = logging.getLogger(__name__)


class Remains(Protocol):
    """The pods and files that the runtime keeps of a session. Front doors that do not own the pods ask too."""

    async def gone(self, session: str) -> bool:
        """Return True if no pod and no file of the session is left."""
        ...

    def expired(self, session: str) -> None:
        """The session has expired in SQL: delete its resource in the cluster."""
        ...


class Slept(NamedTuple):
    """``had_pod``: a pod goes to sleep, now or as soon as it is idle."""

    session: Session
    had_pod: bool


@dataclass(slots=True, eq=False)
class Lifecycle:
    kit: Kit
    remains: Remains

    async def wake(self, uuid: str, access: Access, keep_awake: float = 0.0) -> Woken:
        """Request the pod, for ``keep_awake`` seconds at least.

        WrongMode: the session is suspended.
        """
        if self.kit.modes.mode(uuid) is Mode.SUSPENDED:
            await self.kit.store.get_session(uuid, access)
            raise suspended()
        session = await self.kit.store.touch_session(uuid, access)
        session_class = class_of_session(self.kit.classes, session.class_name)
        try:
            return await self.kit.activity.wake(uuid, session_class, keep_awake, session.user_id)
        except SessionGone:
            raise NotFound("no such session") from None

    async def sleep(self, uuid: str, access: Access, *, when_idle: bool) -> Slept:
        """Put the pod to sleep. SessionBusy while a turn runs or waits; with ``when_idle`` it sleeps after that.

        WrongMode: the session is always on.
        """
        session = await self.kit.store.get_session(uuid, access)
        if self.kit.modes.mode(uuid) is Mode.ALWAYS_ON:
            raise always_on()
        session_class = class_of_session(self.kit.classes, session.class_name)
        try:
            answer = await self.kit.activity.fence(uuid, session_class, force=True)
            if answer in (Fenced.BUSY, Fenced.UNSETTLED) and when_idle:
                await self.kit.activity.sleep_when_idle(uuid)
                return Slept(session, had_pod=True)
        except SessionGone:
            raise NotFound("no such session") from None
        if answer is Fenced.BUSY:
            raise SessionBusy("a turn runs or waits; use ?when=idle to sleep as soon as it is done")
        if answer is Fenced.UNSETTLED:
            raise Unavailable("Redis has just come back; try again in a moment")
        return Slept(session, had_pod=answer is Fenced.PASSED)

    async def delete(self, uuid: str, access: Access) -> None:
        """Commit the deletion, then tear down. The sweep repeats a teardown that could not be completed."""
        await self.kit.store.delete_session(uuid, access)
        log.info("session deleted", extra={"event": "session.deleted", "session": uuid})
        try:
            await self.tear_down(uuid)
        except Unavailable:
            log.info("teardown put off", extra={"event": "session.teardown_put_off", "session": uuid})

    async def tear_down(self, uuid: str) -> bool:
        """Try once more, and return True if only the tombstone is left. Every step may be repeated."""
        await self.kit.activity.delete(uuid)
        if not await self.remains.gone(uuid):
            return False
        await self.kit.store.purge_session(uuid)
        return True

    async def expire(self, session: Session) -> bool:
        """End a session's runtime side after its TTL, and return True if it expired. Any other activity wins.

        The commit comes last, so that an interrupted expiry is repeated.
        """
        if self.kit.modes.mode(session.uuid) is Mode.ALWAYS_ON:
            await self.kit.store.touch_session(session.uuid, EVERYTHING)
            return False
        session_class = class_of_session(self.kit.classes, session.class_name)
        try:
            answer = await self.kit.activity.fence(session.uuid, session_class, force=True)
            if answer is not Fenced.PASSED:
                await self._drop_stale(session, session_class)
            if answer in (Fenced.BUSY, Fenced.UNSETTLED) or not await self.kit.activity.expire(session.uuid):
                return False
        except SessionGone:
            return False
        if not await self.kit.store.expire(session.uuid, session.last_activity):
            return False
        log.info("session expired", extra={"event": "session.expired", "session": session.uuid})
        self.remains.expired(session.uuid)
        return True

    async def _drop_stale(self, session: Session, session_class: SessionClass) -> None:
        """Remove inbox entries whose results are in SQL: Redis was unavailable when they were recorded."""
        for message_id in await self.kit.activity.inbox(session.uuid):
            try:
                message = await self.kit.store.get_message(session.uuid, message_id, EVERYTHING)
            except NotFound:
                message = None
            if message is None or message.finished_at is not None:
                await self.kit.activity.remove(session.uuid, message_id, session_class)
