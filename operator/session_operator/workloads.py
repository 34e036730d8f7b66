"""Workloads as the operator has them: a Deployment per session, and warm pods."""

from __future__ import annotations

from contextlib import suppress

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes.cluster import PODS, ApiConflict, Cluster
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble, trouble_of_deployment
from session_operator.children import Children
from session_operator.resources import Resources
from session_operator.warm import WarmPods


class OwnWorkloads:
    def __init__(self, cluster: Cluster, resources: Resources, children: Children, warm: WarmPods) -> None:
        self._cluster = cluster
        self._resources = resources
        self._children = children
        self._warm = warm

    async def wakeable(self, session: str) -> ClassSpec | None:
        spec = await self._resources.wakeable(session)
        return None if spec is None else spec.class_spec

    async def wake(self, session: str) -> None:
        """A warm pod where there is one, else a replica."""
        spec = await self._resources.wakeable(session)
        if spec is None:
            raise Unavailable("the Session has gone")
        if await self._warm.claim(spec) is None:
            await self._children.wake(spec)

    async def sleep(self, session: str) -> bool:
        return await self._children.sleep(session)

    async def end(self, pod: PodView) -> None:
        with suppress(ApiConflict):
            await self._cluster.delete(PODS, pod.name, uid=pod.uid)

    async def refusal(self, session: str) -> Trouble | None:
        deployment = await self._children.deployment(session)
        return None if deployment is None else trouble_of_deployment(deployment)

    async def forget(self, session: str, *, deleted: bool) -> None:
        await self._children.forget(session, deleted=deleted)
