"""Workloads as a front door has them that stands in for the operator: it scales what is there, and makes nothing.

Each write is made only while nobody else does this work, and only if the Deployment is still as it was when that was
asked: so whoever comes back meanwhile is not worked against.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from session_manager.domain.errors import InvalidInput, PodCannotStart, Unavailable
from session_manager.domain.mode import Mode
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS, ApiConflict, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses
from session_manager.runtime.kubernetes.trouble import Trouble
from session_manager.runtime.kubernetes.workloads import CLASS_MISSING, SUSPENDED

Json = dict[str, Any]

TRIES = 10  # of a patch: the Deployment's status changes at any moment


class ScaledWorkloads:
    """``find`` gives a Session as a watch knows it. ``may_write``: nobody else does this work."""

    def __init__(
        self,
        cluster: Cluster,
        classes: ClusterClasses,
        find: Callable[[str], Json | None],
        may_write: Callable[[], Awaitable[bool]],
    ) -> None:
        self._cluster = cluster
        self._classes = classes
        self._find = find
        self._may_write = may_write

    async def wakeable(self, session: str) -> ClassSpec | None:
        found = self._find(session)
        if found is None or "deletionTimestamp" in found["metadata"]:
            return None
        spec = found["spec"]
        if spec.get("mode") == Mode.SUSPENDED:
            raise PodCannotStart(SUSPENDED, "the mode of the Session is Suspended; set it to Auto or AlwaysOn")
        try:
            return self._classes.spec(spec.get("classRef", {}).get("name", names.DEFAULT_CLASS))
        except InvalidInput as error:
            raise PodCannotStart(CLASS_MISSING, f"{error.detail}; create it, or delete the session") from None

    async def wake(self, session: str) -> None:
        if not await self._scale(session, 1):
            raise Unavailable("the session has no Deployment yet, and only the operator makes one")

    async def sleep(self, session: str) -> bool:
        await self._scale(session, 0)
        return True

    async def _scale(self, session: str, replicas: int) -> bool:
        """False when there is no Deployment."""
        name = names.child_name(session)
        for _ in range(TRIES):
            try:
                found = await self._cluster.get(DEPLOYMENTS, name, "scale")
                if found["spec"].get("replicas", 0) == replicas:
                    return True
                await self._check()
                version = found["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
                await self._cluster.merge_patch(DEPLOYMENTS, name, patch, names.SCALER, "scale")
            except ApiNotFound:
                return False
            except ApiConflict:
                continue
            except ApiError as error:
                raise Unavailable(f"the Kubernetes API refused: {error}") from error
            return True
        raise Unavailable("the Deployment changes all the time")

    async def _check(self) -> None:
        if not await self._may_write():
            raise Unavailable("the operator is back")

    async def end(self, pod: PodView) -> None:
        await self._check()
        with suppress(ApiConflict):
            await self._cluster.delete(PODS, pod.name, uid=pod.uid)

    async def refusal(self, session: str) -> Trouble | None:
        """Only the operator reads Deployments."""
        return None

    async def forget(self, session: str, *, deleted: bool) -> None:
        """Volumes are the operator's: it finds what ended."""
        raise Unavailable("only the operator deletes volumes")
