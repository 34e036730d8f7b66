"""The port to whatever creates and removes pods, and its adapter for a front door that stands in for the operator.

The operator's adapter manages Deployments and warm pools (``session_operator.children``).  A front door may only scale
the Deployments that exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, PODS, ApiConflict, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.trouble import Trouble

TRIES = 10  # of a patch: the status of a Deployment may change at any moment


class Workloads(Protocol):
    """Calls for one session are never concurrent, except ``end``. All raise Unavailable if a retry may help."""

    async def wake(self, session: SessionSpec) -> None:
        """Request one pod for the session; it may exist already. Raises ApiError if the API server refuses it."""
        ...

    async def sleep(self, session: str) -> bool:
        """Request no pod for the session any more. Return False if it has been woken meanwhile."""
        ...

    async def end(self, pod: PodView) -> None:
        """Delete exactly this pod."""
        ...

    async def refusal(self, session: str) -> Trouble | None:
        """Return why the cluster does not even create the pod, or None."""
        ...

    async def forget(self, session: str, *, deleted: bool) -> None:
        """The session expired or was deleted: delete its volume if its class says so."""
        ...


@dataclass(slots=True, eq=False)
class ScaledWorkloads:
    """Scales the Deployments that exist, and creates nothing.

    It writes only while ``may_write`` returns True, which means that no operator is at work, and only if the
    Deployment has not changed since then.  So it never works against an operator that has come back.
    """

    cluster: Cluster
    may_write: Callable[[], Awaitable[bool]]

    async def wake(self, session: SessionSpec) -> None:
        if not await self._scale(session.uuid, 1):
            raise Unavailable("the session has no Deployment yet, and only the operator creates one")

    async def sleep(self, session: str) -> bool:
        await self._scale(session, 0)
        return True

    async def _scale(self, session: str, replicas: int) -> bool:
        """Return False if there is no Deployment."""
        name = names.child_name(session)
        for _ in range(TRIES):
            try:
                found = await self.cluster.get(DEPLOYMENTS, name, "scale")
                if found["spec"].get("replicas", 0) == replicas:
                    return True
                await self._check()
                version = found["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
                await self.cluster.merge_patch(DEPLOYMENTS, name, patch, names.SCALER, "scale")
            except ApiNotFound:
                return False
            except ApiConflict:
                continue
            except ApiError as error:
                raise Unavailable(f"the Kubernetes API rejected the request: {error}") from error
            return True
        raise Unavailable("the Deployment changes too often to be scaled")

    async def _check(self) -> None:
        if not await self.may_write():
            raise Unavailable("the operator is back")

    async def end(self, pod: PodView) -> None:
        await self._check()
        with suppress(ApiConflict):
            await self.cluster.delete(PODS, pod.name, uid=pod.uid)

    async def refusal(self, session: str) -> Trouble | None:
        """Return None: only the operator may read Deployments."""
        return None

    async def forget(self, session: str, *, deleted: bool) -> None:
        """Raise Unavailable: only the operator deletes volumes, and it will see that the session ended."""
        raise Unavailable("only the operator deletes volumes")
