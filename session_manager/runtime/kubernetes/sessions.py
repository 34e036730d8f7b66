"""What a front door does with Session resources. The pods behind them are the operator's.

SQL decides which sessions exist; the resources follow.  A session that was made, or that wants its pod and has no
resource (it had expired, or somebody deleted it), gets one.  The resource of one that was deleted or has expired goes,
by its UID and resource version, so that a newer one of the same name stays.  What a person made is adopted: it is then
a session like any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from session_manager.aio.tasks import cancel
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.errors import NotFound, SessionManagerError, Unavailable
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import Mode
from session_manager.domain.session import Session
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    PODS,
    SESSIONS,
    ApiConflict,
    ApiError,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.watch import DELETED
from session_manager.runtime.kubernetes.watched import WatchedSessions, trim

log = logging.getLogger(__name__)

Json = dict[str, Any]

LOOKED_AT = 20  # resources that one sweep compares with SQL, in turn
MADE_AT_ONCE = 32  # more would wait for connections until they count as failed, and take them from everything else


class Records(Protocol):
    """What is recorded of sessions."""

    async def get_session(self, uuid: str, access: Access) -> Session:
        """NotFound when it is unknown or deleted."""
        ...

    async def adopt(self, uuid: str, owner: str, class_name: str) -> None:
        """Make the record of a session that stands in the cluster already; nothing when there is one."""
        ...

    async def resume(self, uuid: str) -> None:
        """It is suspended no more: want its pod if something waits. NotFound when it is unknown or deleted."""
        ...


def session_manifest(session: Session, install: str) -> Json:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.SESSION_KIND,
        "metadata": {"name": session.uuid, "labels": {names.INSTALL_LABEL: install}},
        "spec": {"classRef": {"name": session.class_name}, "owner": session.user_id},
    }


class KubernetesSessions:
    """``install`` marks the resources of this installation. ``interval`` in seconds: between sweeps.

    ``wanted`` gives the sessions that are waking or awake; ``on_wake`` subscribes to those that are woken; ``ended``
    tells that one has expired.
    """

    def __init__(
        self,
        cluster: Cluster,
        watched: WatchedSessions,
        records: Records,
        install: str,
        interval: float,
        wanted: Callable[[], Coroutine[Any, Any, Any]],
        on_wake: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]],
        ended: Callable[[str], Coroutine[Any, Any, None]],
    ) -> None:
        self._cluster = cluster
        self._watched = watched
        self._records = records
        self._install = install
        self._interval = interval
        self._wanted = wanted
        self._on_wake = on_wake
        self._ended = ended
        watched.listen(self._on_session)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: list[str] = []
        self._suspended: set[str] = set()
        self._making = asyncio.Semaphore(MADE_AT_ONCE)
        self._unmade: set[str] = set()
        self._beside: list[Callable[[], Coroutine[Any, Any, None]]] = []

    # -- the host of pods, as a front door sees it ---------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and sweep, for ever."""
        await self._cluster.start()
        self._watched.start()
        async with asyncio.TaskGroup() as group:
            for work in self._beside:
                group.create_task(work())
            await self._subscribe()
            await self._keep_sweeping()

    def beside(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this as well, once the cluster can be asked. Call before ``run``."""
        self._beside.append(work)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._sweep()
            except (SessionManagerError, ApiError) as error:
                log.info("put off: %s", error, extra={"event": "resources.put_off"})

    async def close(self, grace: float | None = None) -> None:
        await cancel(*self._tasks)
        await self._watched.close()
        await self._cluster.close()

    @property
    def healthy(self) -> bool | None:
        """Whether the API answers, by the watch."""
        return self._watched.healthy

    @property
    def wake_times(self) -> Histogram | None:
        """The operator's."""
        return None

    @property
    def lacks(self) -> str | None:
        """What keeps requests from being served, in words."""
        return self._watched.lacks

    def mode(self, session: str) -> Mode:
        """As the watch told last. Unavailable before the first list."""
        return self._watched.mode(session)

    def created(self, session: Session) -> None:
        """A session was made: its resource should stand there, now if possible, else by the sweep.

        What this process cannot do before it ends is done when the session is first woken.
        """
        self._spawn(self._make(session), session.uuid)

    async def gone(self, session: str) -> bool:
        """Whether nothing of a deleted session is left; what is, is asked to go."""
        try:
            return await self._take_away(session)
        except ApiError as error:
            raise Unavailable("The Kubernetes API refused to delete the session's resource") from error

    async def _take_away(self, session: str) -> bool:
        try:
            found = await self._cluster.get(SESSIONS, session)
        except ApiNotFound:
            pods, _ = await self._cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
            return not pods
        await self._delete(trim(found))
        return False

    async def logs(self, session: str, tail: int) -> str:
        pods, _ = await self._cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        if not pods:
            return ""
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        try:
            return await self._cluster.logs(newest["metadata"]["name"], tail)
        except ApiError:
            return ""  # its container has not begun, or is gone

    # -- resources -----------------------------------------------------------------------------------------------------

    def _on_session(self, kind: str, resource: Json) -> None:
        name = resource["metadata"]["name"]
        if kind != DELETED and resource["spec"].get("mode") == Mode.SUSPENDED:
            self._suspended.add(name)
        elif name in self._suspended:
            self._suspended.discard(name)
            self._spawn(self._records.resume(name), name)
        if kind != DELETED and not resource["metadata"]["labels"][names.INSTALL_LABEL]:
            self._spawn(self._adopt(resource), resource["metadata"]["name"])

    async def _subscribe(self) -> None:
        while True:
            try:
                await self._on_wake(self._woken)
                return
            except Unavailable:
                await asyncio.sleep(self._interval)

    def _woken(self, session: str) -> None:
        """Told when a session is woken, and when it has expired."""
        if not self._watched.synced:
            return
        if self._missing(session):
            self._spawn(self._make_from_record(session), session)
        else:
            self._spawn(self._compare(self._watched.objects[session]), session)

    def _missing(self, session: str) -> bool:
        found = self._watched.objects.get(session)
        return found is None or "deletionTimestamp" in found["metadata"]

    async def _make_from_record(self, session: str) -> None:
        try:
            record = await self._records.get_session(session, EVERYTHING)
        except NotFound:
            return
        except Unavailable:
            self._unmade.add(session)
            raise
        if record.expired_at is None:
            await self._make(record)

    async def _make(self, session: Session) -> None:
        manifest = session_manifest(session, self._install)
        try:
            async with self._making:
                made = await self._cluster.create(SESSIONS, manifest, names.FRONT_DOOR)
        except ApiConflict:
            return  # another front door was faster, or it is on its way out and the sweep comes back
        except Unavailable:
            self._unmade.add(session.uuid)
            raise
        log.info("session resource made", extra={"event": "resource.made", "session": session.uuid})
        try:
            await self._records.get_session(session.uuid, EVERYTHING)
        except NotFound:
            # Deleted meanwhile, by whoever looked for the resource before it was there and will not look again.
            await self._cluster.delete(SESSIONS, session.uuid, uid=made["metadata"]["uid"])

    async def _delete(self, resource: Json) -> None:
        metadata = resource["metadata"]
        try:
            await self._cluster.delete(
                SESSIONS, metadata["name"], uid=metadata["uid"], version=metadata["resourceVersion"]
            )
        except ApiConflict:
            return  # it has changed since: look again before it is taken away
        log.info("session resource deleted", extra={"event": "resource.deleted", "session": metadata["name"]})

    async def _adopt(self, resource: Json) -> None:
        """A person made it. Its record comes first: what stands in the cluster alone has no conversation."""
        name, spec = resource["metadata"]["name"], resource["spec"]
        await self._records.adopt(name, spec["owner"], spec["classRef"]["name"])
        patch: Json = {
            "apiVersion": names.API_VERSION,
            "kind": names.SESSION_KIND,
            "metadata": {
                "name": name,
                "uid": resource["metadata"]["uid"],
                "labels": {names.INSTALL_LABEL: self._install},
            },
        }
        await self._cluster.apply(SESSIONS, patch, names.FRONT_DOOR)
        log.info("session adopted", extra={"event": "resource.adopted", "session": name})

    # -- sweep ---------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        if not self._watched.healthy:
            return
        unmade, self._unmade = self._unmade, set()
        for session in filter(self._missing, unmade):
            self._spawn(self._make_from_record(session), session)
        awake = await self._wanted()
        for session in awake:
            if self._missing(session):
                await self._make_from_record(session)
        for session in self._next():
            resource = self._watched.objects.get(session)
            if resource is not None and session not in awake:
                await self._compare(resource)

    def _next(self) -> list[str]:
        """Some resources after the other, so that all have their turn."""
        if not self._turn:
            self._turn = list(self._watched.objects)
        some, self._turn = self._turn[:LOOKED_AT], self._turn[LOOKED_AT:]
        return some

    async def _compare(self, resource: Json) -> None:
        """What a crash between a commit and its resource has left behind."""
        name, install = resource["metadata"]["name"], resource["metadata"]["labels"][names.INSTALL_LABEL]
        if not install:
            await self._adopt(resource)
        elif install == self._install:
            try:
                record = await self._records.get_session(name, EVERYTHING)
            except NotFound:
                return  # a deleted session's teardown asks for it; one that SQL never knew is not ours to end
            if record.expired_at is not None:
                # In this order: while the resource stands, this is repeated.
                await self._ended(name)
                await self._delete(resource)

    def _spawn(self, work: Coroutine[Any, Any, None], session: str) -> None:
        task = asyncio.create_task(self._try(work, session), name=f"resource {session}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _try(work: Coroutine[Any, Any, None], session: str) -> None:
        try:
            await work
        except (SessionManagerError, ApiError) as error:
            extra = {"event": "resource.failed", "session": session, "reason": str(error)}
            log.warning("a Session resource could not be written; it is tried again", extra=extra)
