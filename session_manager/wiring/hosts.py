"""Where pods run, as a front door sees it: on this machine by itself, or in a cluster by the operator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from session_manager.activity.link import Link
from session_manager.activity.machine import RedisMachines
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import until_available
from session_manager.domain.access import EVERYTHING, Access
from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import Conflict, NotFound, PodRejected, StartupFailure
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import AllAuto, Mode
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClass, SessionClasses, class_of_session
from session_manager.domain.times import micros
from session_manager.leadership.one_machine import OneMachine
from session_manager.podclient.adk import StoredSessions
from session_manager.podclient.gateway import PodGateway, parse_networks
from session_manager.podclient.protocol import PodClient
from session_manager.runtime.classes import ConfiguredClasses, load_classes
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process.machine import MachineFile
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.scaler import Scaler, ScalerTimes
from session_manager.scaling.stand_in import StandIn
from session_manager.settings import Settings
from session_manager.store.protocol import NewSession, Store

log = logging.getLogger(__name__)

KUBERNETES = "kubernetes"
OWNER_RETRY = 0.5  # seconds


class PodHost(Protocol):
    @property
    def healthy(self) -> bool | None:
        """Whether the cluster answers; None where there is none."""
        ...

    @property
    def lacks(self) -> str | None:
        """What keeps requests from being served, in words; None: nothing."""
        ...

    @property
    def wake_times(self) -> Histogram | None:
        """Of the pods that are started here; None: they are started elsewhere."""
        ...

    def mode(self, session: str) -> Mode:
        """As its resource says. Unavailable while the cluster has not told yet."""
        ...

    async def run(self) -> None:
        """Do what is to be done for sessions and their pods, for ever."""
        ...

    async def close(self, grace: float | None = None) -> None: ...
    def created(self, session: Session) -> None:
        """A session was made."""
        ...

    async def gone(self, session: str) -> bool:
        """Nothing of a deleted session is left. Unavailable when that cannot be known now."""
        ...

    async def logs(self, session: str, tail: int) -> str:
        """The last ``tail`` lines that the session's pods printed, oldest first; empty when there are none."""
        ...


def open_classes(settings: Settings) -> SessionClasses:
    """From the cluster, whose host fills them in, or from a YAML file. StartupFailure names what is wrong in it."""
    if settings.session_runtime != KUBERNETES:
        return load_classes(settings)
    return ClusterClasses(settings.idle_timeout, settings.session_ttl, settings.user_pod_image, settings.user_pod_port)


def class_names(classes: SessionClasses) -> list[str]:
    """Those that are known now, sorted."""
    if isinstance(classes, ClusterClasses | ConfiguredClasses):
        return sorted(each.name for each in classes.all())
    return []


def open_pods(settings: Settings, store: Store) -> PodClient:
    networks = parse_networks(settings.pod_cidrs) if settings.session_runtime == KUBERNETES else None
    return PodGateway(_stored_sessions(store), networks)


def _stored_sessions(store: Store) -> StoredSessions:
    """What a pod of protocol adk is given of a session that it does not keep here."""

    async def read(key: AdkKey, recent: int | None) -> AdkSession:
        try:
            return await until_available(lambda: store.adk_get(key, recent))
        except NotFound:
            raise PodRejected("the session is gone") from None

    return read


def open_host(settings: Settings, classes: SessionClasses, activity: RedisActivity, store: Store) -> PodHost:
    """``classes`` as ``open_classes`` made them. StartupFailure when what Kubernetes needs is not installed."""
    if isinstance(classes, ClusterClasses):
        return _open_cluster(settings, classes, activity, store)
    runtime = ProcessRuntime.from_settings(settings)
    scaler = Scaler(activity, runtime, classes, _times(settings), settings.max_wakes)
    return ProcessHost(runtime, scaler, classes.all() if isinstance(classes, ConfiguredClasses) else ())


def _open_cluster(settings: Settings, classes: ClusterClasses, activity: RedisActivity, store: Store) -> PodHost:
    try:
        from session_manager.runtime.kubernetes.cluster import Cluster  # noqa: PLC0415  an optional dependency
        from session_manager.runtime.kubernetes.pods import Pods  # noqa: PLC0415
        from session_manager.runtime.kubernetes.runtime import KubernetesRuntime  # noqa: PLC0415
        from session_manager.runtime.kubernetes.scale import ScaledWorkloads  # noqa: PLC0415
        from session_manager.runtime.kubernetes.sessions import KubernetesSessions  # noqa: PLC0415
        from session_manager.runtime.kubernetes.watched import WatchedSessions  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise StartupFailure(f"{error.name} is missing: pip install 'session-manager[operator]'") from None
    cluster = Cluster(settings.sessions_namespace)
    watched = WatchedSessions(cluster, classes)
    sessions = KubernetesSessions(
        cluster,
        watched,
        Records(store, classes, activity),
        settings.install_id,
        settings.repair_interval,
        activity.awake,
        activity.on_wake,
        activity.ended,
    )

    def open_runtime() -> Runtime:
        workloads = ScaledWorkloads(cluster, classes, watched.find, lambda: activity.beat(deputy=True))
        return KubernetesRuntime(cluster, Pods(cluster), workloads)

    stand_in = StandIn(activity, open_runtime, classes, _times(settings), settings.max_wakes, watched)
    sessions.beside(stand_in.run)
    return sessions


def open_machine(settings: Settings, link: Link) -> OneMachine | None:
    """None in a cluster, where every front door reaches every pod."""
    if settings.session_runtime == KUBERNETES:
        return None
    machines = RedisMachines(link, settings.heartbeat)
    return OneMachine(machines, MachineFile(settings.data_dir), settings.heartbeat, yields=settings.writer_yields)


def _times(settings: Settings) -> ScalerTimes:
    return ScalerTimes(
        tick=min(1.0, settings.idle_timeout / 4),
        heartbeat=settings.heartbeat,
        retry_first=settings.retry_first,
        retry_last=settings.retry_last,
    )


class ProcessHost(AllAuto):
    """The pods of this data folder, as processes. ``classes``: those that may want warm ones."""

    def __init__(self, runtime: ProcessRuntime, scaler: Scaler, classes: Iterable[SessionClass]) -> None:
        self._runtime = runtime
        self._scaler = scaler
        self._classes = classes

    @property
    def healthy(self) -> bool | None:
        return None

    @property
    def lacks(self) -> str | None:
        return None

    @property
    def wake_times(self) -> Histogram | None:
        return self._scaler.wake_times

    async def run(self) -> None:
        """Run the pods, as soon as no other process does."""
        while True:
            try:
                await self._runtime.start()
                break
            except StartupFailure:
                await asyncio.sleep(OWNER_RETRY)
        log.info("this process owns the pods", extra={"event": "pods.owned"})
        await self._runtime.keep_warm(self._classes)
        await self._scaler.run()

    async def close(self, grace: float | None = None) -> None:
        await self._runtime.close(grace)

    def created(self, session: Session) -> None:
        """Nothing of a session stands on this machine before it is woken."""

    async def gone(self, session: str) -> bool:
        return await self._runtime.gone(session)

    async def logs(self, session: str, tail: int) -> str:
        return await self._runtime.logs(session, tail)


class Records:
    """What is recorded of sessions, for those who see them in the cluster."""

    def __init__(self, store: Store, classes: SessionClasses, activity: RedisActivity) -> None:
        self._store = store
        self._classes = classes
        self._activity = activity

    async def get_session(self, uuid: str, access: Access) -> Session:
        return await self._store.get_session(uuid, access)

    async def adopt(self, uuid: str, owner: str, class_name: str) -> None:
        ttl = micros(class_of_session(self._classes, class_name).ttl)
        with suppress(Conflict):  # known already
            await self._store.create_session(NewSession(uuid, owner, class_name, ttl))

    async def resume(self, uuid: str) -> None:
        session = await self._store.get_session(uuid, EVERYTHING)
        if await self._store.unfinished_of(uuid):
            await self._activity.wake(uuid, class_of_session(self._classes, session.class_name))
