"""Pods in a cluster. The operator runs them; a front door keeps their Session resources, and stands in for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Conflict
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import Mode
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClasses, class_of
from session_manager.domain.times import micros
from session_manager.leadership.one_machine import OneMachine
from session_manager.podclient.gateway import PodGateway, parse_networks
from session_manager.runtime.kubernetes.cluster import Cluster
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.kubernetes.sessions import SessionResources
from session_manager.runtime.kubernetes.workloads import ScaledWorkloads
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.kit import ScalerKit, ScalerTimes
from session_manager.scaling.stand_in import StandIn
from session_manager.settings import Settings
from session_manager.store.protocol import NewSession, Store
from session_manager.wiring.hosts.host import Host, open_activity, stored_sessions


class KubernetesHost:
    """The sessions of one namespace."""

    def __init__(self, settings: Settings, link: Link, store: Store) -> None:
        self.classes = ClusterClasses.from_settings(settings)
        self.machine: OneMachine | None = None  # every front door reaches every pod
        self.activity = open_activity(settings, link, store)
        self.pods = PodGateway(stored_sessions(store), parse_networks(settings.pod_cidrs))
        self._cluster = Cluster(settings.sessions_namespace)
        self._resources = Resources(self._cluster, self.classes)
        records = FrontDoorRecords(store, self.classes, self.activity)
        self._sessions = SessionResources(
            self._cluster,
            self._resources,
            records,
            self.activity,
            settings.install_id,
            settings.repair_interval,
        )
        times = ScalerTimes.from_settings(settings)
        kit = ScalerKit(self.activity, self.classes, times, settings.max_wakes, self._resources)
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

    @property
    def wake_times(self) -> Histogram | None:
        return None

    def class_names(self) -> list[str]:
        return self.classes.names()

    def mode(self, session: str) -> Mode:
        return self._resources.mode(session)

    async def run(self) -> None:
        await self._cluster.start()
        self._resources.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stand_in.run(), name="stand-in")
            group.create_task(self._sessions.run(), name="session resources")

    async def close(self, grace: float | None = None) -> None:
        await self._sessions.close()
        await self._resources.close()
        await self._cluster.close()

    def created(self, session: Session) -> None:
        self._sessions.created(session)

    def expired(self, session: str) -> None:
        self._sessions.expired(session)

    async def gone(self, session: str) -> bool:
        return await self._sessions.gone(session)

    async def logs(self, session: str, tail: int) -> str:
        return await self._sessions.logs(session, tail)


class FrontDoorRecords:
    """Reads and writes the records of sessions for their resources."""

    def __init__(self, store: Store, classes: SessionClasses, activity: RedisActivity) -> None:
        self._store = store
        self._classes = classes
        self._activity = activity

    async def get_session(self, uuid: str) -> Session:
        return await self._store.get_session(uuid, EVERYTHING)

    async def adopt(self, uuid: str, owner: str, class_name: str) -> None:
        ttl = micros(class_of(self._classes, class_name).ttl)
        with suppress(Conflict):  # there is a record already
            await self._store.create_session(NewSession(uuid, owner, class_name, ttl))

    async def resume(self, uuid: str) -> None:
        session = await self._store.get_session(uuid, EVERYTHING)
        if await self._store.unfinished_of(uuid):
            await self._activity.wake(uuid, class_of(self._classes, session.class_name))


def open_host(settings: Settings, link: Link, store: Store) -> Host:
    return KubernetesHost(settings, link, store)
