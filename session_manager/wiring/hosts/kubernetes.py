"""Pods in a cluster. The operator runs them; a front door keeps their Session resources, and stands in for it."""

from __future__ import annotations

import asyncio

from session_manager.activity.link import Link
from session_manager.domain.mode import Mode
from session_manager.runtime.kubernetes.cluster import Cluster
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.kubernetes.workloads import ScaledWorkloads
from session_manager.runtime.protocol import Runtime
from session_manager.scaling.scaler import StandIn
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.settings import Settings
from session_manager.store.protocol import Store
from session_manager.wiring.hosts import Host
from session_manager.wiring.hosts.session_resources import SessionResources


class PodHost(SessionResources, Host):
    """The sessions of one namespace: their resources, and a deputy for the operator."""

    classes: ClusterClasses

    def __init__(self, settings: Settings, link: Link, store: Store) -> None:
        Host.__init__(self, settings, link, store, networks=settings.kubernetes.pod_networks)
        cluster = Cluster(settings.kubernetes.namespace)
        self.classes = ClusterClasses.from_settings(settings)
        self._resources = Resources(cluster, self.classes)
        SessionResources.__init__(self, cluster, self._resources, store, self.activity, settings)
        kit = ScalerKit(
            self.activity,
            self.classes,
            ScalerTimes.from_settings(settings),
            settings.pods.max_wakes,
            self._resources.always_on,
            self._resources.class_name,
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
