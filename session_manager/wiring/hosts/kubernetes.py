"""Pods in a cluster. The operator runs them; a front door keeps their Session resources, and stands in for it.

SQL decides which sessions exist, and the resources follow.  A session that was created, or that wants its pod and has
no resource (it had expired, or the resource was deleted), gets one.  The resource of a session that was deleted or has
expired is deleted by its UID and resource version, so that a newer one of the same name stays.  A resource that a
person created is adopted, and is then a session like any other.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import Background
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Conflict, InvalidInput, NotFound, SessionManagerError, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session import Session
from session_manager.domain.session_class import class_of_session
from session_manager.domain.times import micros
from session_manager.domain.values import Json, valid_user_id
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import PODS, SESSIONS, ApiConflict, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources, SessionView, session_view
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.kubernetes.watch import DELETED
from session_manager.runtime.kubernetes.workloads import ScaledWorkloads
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.scaler import StandIn
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.settings import Settings
from session_manager.store.protocol import NewSession, Store
from session_manager.tracing.spans import Spans
from session_manager.wiring.hosts import Host

log = logging.getLogger(__name__)

COMPARED = 20  # resources that one sweep compares with SQL, in turn
CREATED_AT_ONCE = 32  # more would time out while they wait for connections, and keep these from everything else


def session_manifest(session: Session, install: str) -> Json:
    labels = names.selectable_labels(session.class_name, session.user_id)
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.SESSION_KIND,
        "metadata": {"name": session.uuid, "labels": {names.INSTALL_LABEL: install, **labels}},
        "spec": {"classRef": {"name": session.class_name}, "owner": session.user_id},
    }


class SessionResources:
    def __init__(
        self, cluster: Cluster, resources: Resources, store: Store, activity: RedisActivity, settings: Settings
    ) -> None:
        self._cluster = cluster
        self._sessions = resources.sessions
        self._classes = resources.classes
        self._store = store
        self._activity = activity
        self._install = settings.kubernetes.install_id
        self._interval = settings.sessions.repair_interval
        self._sessions.listen(self._on_session)
        self._background = Background(self._report)
        self._turn: list[str] = []
        self._suspended: set[str] = set()
        self._creating = asyncio.Semaphore(CREATED_AT_ONCE)
        self._missed: set[str] = set()
        self._refused: set[str] = set()  # UIDs of Sessions whose owner cannot be a user

    async def run(self) -> None:
        """Create missing resources as sessions wake, and sweep, until cancelled."""
        await until_available(lambda: self._activity.on_scale(self._on_scale), Backoff(self._interval, self._interval))
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._sweep()
            except (SessionManagerError, ApiError) as error:
                log.info("a sweep was put off: %s", error, extra={"event": "resources.put_off"})
            except Exception:
                # The next sweep may go better, and without sweeps resources would stay behind.
                log.exception("a sweep failed", extra={"event": "resources.failed"})

    async def close(self, grace: float | None = None) -> None:
        await self._background.close()

    # -- what the front door reports -----------------------------------------------------------------------------------

    def created(self, session: Session) -> None:
        """Create the resource of a new session in the background.

        The sweep repeats what fails. What this process leaves undone when it ends is done when the session is woken.
        """
        self._background.start(self._create(session), session.uuid)

    def expired(self, session: str) -> None:
        """Delete the resource of an expired session in the background. The sweep repeats what fails."""
        view = self._sessions.objects.get(session)
        if view is not None and view.install == self._install:
            self._background.start(self._remove_expired(view), session)

    async def gone(self, session: str) -> bool:
        """Return True if nothing of a deleted session is left in the cluster; delete its resource otherwise."""
        try:
            with suppress(ApiNotFound):
                await self._delete(session_view(await self._cluster.get(SESSIONS, session)))
                return False
            pods, _ = await self._cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        except ApiError as error:
            raise Unavailable("The Kubernetes API refused to delete the session's resource") from error
        return not pods

    async def logs(self, session: str, tail: int) -> str:
        """Return the last lines of the session's newest pod, or "" if there is none."""
        pods, _ = await self._cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        if not pods:
            return ""
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        try:
            return await self._cluster.logs(newest["metadata"]["name"], tail)
        except ApiError:
            return ""  # its container has not started, or is gone

    # -- what the watch and Redis report -------------------------------------------------------------------------------

    def _on_session(self, kind: str, view: SessionView) -> None:
        if kind != DELETED and view.mode is Mode.SUSPENDED:
            self._suspended.add(view.uuid)
        elif view.uuid in self._suspended:
            self._suspended.discard(view.uuid)
            self._background.start(self._resume(view.uuid), view.uuid)
        if kind != DELETED and not view.install:
            self._background.start(self._adopt(view), view.uuid)

    async def _resume(self, session: str) -> None:
        """Wake a session that is no longer suspended, if messages wait."""
        record = await self._store.get_session(session, EVERYTHING)
        if await self._store.unfinished_of(session):
            session_class = class_of_session(self._classes, record.class_name)
            await self._activity.wake(session, session_class, user=record.user_id)

    def _on_scale(self, session: str) -> None:
        """Create the resource if it is missing. Usually it exists, and then neither SQL nor the API is asked."""
        if self._sessions.synced.is_set() and self._missing(session):
            self._background.start(self._create_from_record(session), session)

    def _missing(self, session: str) -> bool:
        view = self._sessions.objects.get(session)
        return view is None or view.leaving

    # -- writes --------------------------------------------------------------------------------------------------------

    async def _create_from_record(self, session: str) -> None:
        try:
            record = await self._store.get_session(session, EVERYTHING)
        except NotFound:
            return
        if record.expired_at is None:
            await self._create(record)

    async def _create(self, session: Session) -> None:
        manifest = session_manifest(session, self._install)
        try:
            async with self._creating:
                created = await self._cluster.create(SESSIONS, manifest, names.FRONT_DOOR)
        except ApiConflict:
            return  # another front door was faster, or the former one is being deleted and the sweep comes back
        log.info("session resource created", extra={"event": "resource.made", "session": session.uuid})
        try:
            await self._store.get_session(session.uuid, EVERYTHING)
        except NotFound:
            # The session was deleted meanwhile, and its teardown found no resource and will not look again.
            await self._cluster.delete(SESSIONS, session.uuid, uid=created["metadata"]["uid"])

    async def _delete(self, view: SessionView) -> None:
        try:
            await self._cluster.delete(SESSIONS, view.uuid, uid=view.uid, version=view.version)
        except ApiConflict:
            return  # it has changed since it was read: compare it again before it is deleted
        log.info("session resource deleted", extra={"event": "resource.deleted", "session": view.uuid})

    async def _remove_expired(self, view: SessionView) -> None:
        """Forget first and delete second: as long as the resource exists, the sweep repeats both."""
        await self._activity.ended(view.uuid)
        await self._delete(view)

    async def _adopt(self, view: SessionView) -> None:
        """Create the record first, since a session without one has no conversation; then mark the resource as ours."""
        if view.uid in self._refused:
            return
        try:
            owner = valid_user_id(view.owner, "spec.owner")
        except InvalidInput as error:
            self._refused.add(view.uid)  # a session keeps its owner, so this is final
            extra = {"event": "resource.refused", "session": view.uuid, "reason": error.detail}
            log.warning("a Session is not adopted: %s", error.detail, extra=extra)
            return
        ttl = micros(class_of_session(self._classes, view.class_name).ttl)
        with suppress(Conflict):  # there is a record already
            await self._store.adopt_session(NewSession(view.uuid, owner, view.class_name, ttl))
        labels = {names.INSTALL_LABEL: self._install, **names.selectable_labels(view.class_name, owner)}
        patch: Json = {
            "apiVersion": names.API_VERSION,
            "kind": names.SESSION_KIND,
            "metadata": {"name": view.uuid, "uid": view.uid, "labels": labels},
        }
        await self._cluster.apply(SESSIONS, patch, names.FRONT_DOOR)
        log.info("session adopted", extra={"event": "resource.adopted", "session": view.uuid})

    # -- sweep ---------------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        if not self._sessions.healthy:
            return
        missed, self._missed = self._missed, set()
        for session in filter(self._missing, missed):
            self._background.start(self._create_from_record(session), session)
        awake = await self._activity.awake()
        for session in filter(self._missing, awake):
            await self._create_from_record(session)
        if not self._turn:
            self._turn = list(self._sessions.objects)
        some, self._turn = self._turn[:COMPARED], self._turn[COMPARED:]
        for session in some:
            view = self._sessions.objects.get(session)
            if view is not None and session not in awake:
                await self._compare(view)

    async def _compare(self, view: SessionView) -> None:
        """Do what a crash between a commit and its resource has left undone."""
        if not view.install:
            await self._adopt(view)
        elif view.install == self._install:
            try:
                record = await self._store.get_session(view.uuid, EVERYTHING)
            except NotFound:
                return  # a deleted session's teardown asks for it; one that SQL never knew is not ours to end
            if record.expired_at is not None:
                await self._remove_expired(view)

    def _report(self, error: BaseException, session: str) -> None:
        if isinstance(error, Unavailable):
            self._missed.add(session)
        extra = {"event": "resource.failed", "session": session, "reason": str(error)}
        expected = isinstance(error, (SessionManagerError, ApiError))
        log.warning("work on a session failed", exc_info=None if expected else error, extra=extra)


class PodHost(SessionResources, Host):
    """The sessions of one namespace: their resources, and a deputy for the operator."""

    classes: ClusterClasses

    def __init__(self, settings: Settings, link: Link, store: Store, spans: Spans) -> None:
        Host.__init__(self, settings, link, store, networks=settings.kubernetes.pod_networks)
        cluster = Cluster(settings.kubernetes.namespace)
        self.classes = ClusterClasses.from_settings(settings)
        self._resources = Resources(cluster, self.classes, ask_api=False)
        SessionResources.__init__(self, cluster, self._resources, store, self.activity, settings)
        kit = ScalerKit(
            self.activity,
            self.classes,
            ScalerTimes.from_settings(settings),
            settings.pods.max_wakes,
            self._resources.always_on,
            self._resources.class_name,
            self._resources.user,
            settings.pods.max_awake,
            settings.quotas.by_user,
            spans,
        )
        self._stand_in = StandIn(kit, self._open_runtime)

    def _open_runtime(self) -> Runtime:
        workloads = ScaledWorkloads(self._cluster, lambda: self.activity.beat(deputy=True))
        return KubernetesRuntime(self._resources, Pods(self._cluster), workloads)

    @property
    def healthy(self) -> bool | None:
        return self._resources.sessions.healthy

    @property
    def lacks(self) -> str | None:
        return self._resources.lacks

    def class_names(self) -> list[str]:
        return sorted(self.classes.specs)

    def mode(self, session: str) -> Mode:
        return self._resources.mode(session)

    async def run(self) -> None:
        await self._cluster.start()
        self._resources.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stand_in.run(), name="stand-in")
            group.create_task(super().run(), name="session resources")

    async def close(self, grace: float | None = None) -> None:
        await super().close()
        await self._resources.close()
        await self._cluster.close()
