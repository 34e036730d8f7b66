"""Writes the children of Sessions, wakes a Session and puts it to sleep: the operator's Workloads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLAIMS,
    PODS,
    SCALED_OBJECTS,
    SERVICES,
    ApiConflict,
    ApiError,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator import manifests
from session_operator.deployments import Deployments
from session_operator.fields import service_differs
from session_operator.manifests import RedisTrigger
from session_operator.once import Once
from session_operator.warm import WarmPods

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Children:
    """``scaler``: keda or native, for classes that name none. ``keda_served``: the cluster serves KEDA's API.

    ``complete``: each Session as it was when its other children were written.
    """

    cluster: Cluster
    warm: WarmPods
    scaler: str
    trigger: RedisTrigger
    keda_served: bool = False
    complete: dict[str, SessionSpec] = field(default_factory=dict)
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    refused: Once = field(default_factory=lambda: Once(log))
    deployments: Deployments = field(init=False)

    def __post_init__(self) -> None:
        self.deployments = Deployments(self.cluster)

    # -- what the watches report ---------------------------------------------------------------------------------------

    def drop(self, session: str) -> None:
        """Forget the children of a Session that is gone; they go with it."""
        self.deployments.live.pop(session, None)
        self.complete.pop(session, None)
        self.refused.over(session)

    def lacks_keda(self, session: SessionSpec) -> bool:
        return self.wants_keda(session) and not self.keda_served

    def wants_keda(self, session: SessionSpec) -> bool:
        return (session.class_spec.scaler or self.scaler) == "keda"

    def lost(self, session: str) -> None:
        """Another child of the session was changed or deleted: the next ``ensure`` writes all of them again."""
        self.complete.pop(session, None)

    def scaled_up(self) -> list[str]:
        """Return the sessions whose Deployments request a pod."""
        return [session for session, live in self.deployments.live.items() if live.replicas > 0]

    # -- children ------------------------------------------------------------------------------------------------------

    async def ensure(self, session: SessionSpec, *, repair: bool = False) -> None:
        """Create the children that are missing. ``repair``: also correct what others did to the Deployment."""
        async with self._lock(session.uuid):
            await self.deployments.ensure(session, repair=repair)
            if not self._is_complete(session):
                await self._ensure_others(session)

    def _is_complete(self, session: SessionSpec) -> bool:
        before = self.complete.get(session.uuid)
        return before is not None and self._decisive(before) == self._decisive(session)

    def _decisive(self, session: SessionSpec) -> tuple[object, ...]:
        """Return what the other children depend on and may change while the session exists."""
        return session.uid, session.suspended, session.class_spec.base.port, self.wants_keda(session)

    async def _ensure_others(self, session: SessionSpec) -> None:
        await self._ensure_service(manifests.service(session))
        storage = session.class_spec.storage
        if storage is not None:
            await self._ensure_claim(manifests.volume_claim(session, storage))
        if self.wants_keda(session) and self.keda_served:
            manifest = manifests.scaled_object(session, self.trigger)
            await self.cluster.apply(SCALED_OBJECTS, manifest, names.OPERATOR)
        self.complete[session.uuid] = session

    async def _ensure_service(self, service: Json) -> None:
        """Create the Service. It rarely exists, and creating costs the API server half as much as applying."""
        try:
            await self.cluster.create(SERVICES, service, names.OPERATOR)
        except ApiConflict:
            found = await self.cluster.get(SERVICES, service["metadata"]["name"])
            if service_differs(service, found):
                # Others may have added to its lists and maps, and applying would not take that away.
                patch = [
                    {"op": "add", "path": f"/spec/{name}", "value": value} for name, value in service["spec"].items()
                ]
                await self.cluster.json_patch(SERVICES, service["metadata"]["name"], patch, names.OPERATOR)
            await self.cluster.apply(SERVICES, service, names.OPERATOR)

    async def _ensure_claim(self, claim: Json) -> None:
        """Create the claim once and never change it: claims are nearly immutable."""
        try:
            await self.cluster.create(CLAIMS, claim, names.OPERATOR)
        except ApiConflict:
            found = await self.cluster.get(CLAIMS, claim["metadata"]["name"])
            if "deletionTimestamp" in found["metadata"]:
                raise Unavailable("the former volume of the session is still being deleted") from None

    # -- wake and sleep ------------------------------------------------------------------------------------------------

    async def wake(self, session: SessionSpec) -> None:
        """Give the session a warm pod if there is one, else a replica of the present template."""
        if session.class_spec.warm > 0 and await self.warm.claim(session) is not None:
            return
        async with self._lock(session.uuid):
            if session.class_spec.storage is not None and not self._is_complete(session):
                await self.deployments.ensure(session, repair=False)
                await self._ensure_others(session)
            await self.deployments.scale_up(session)

    async def sleep(self, session: str, unless: Callable[[], bool] = lambda: False) -> bool:
        """Request no replica. Return False if the session was woken since we looked, or if ``unless`` returns True."""
        with self._retried(session):
            async with self._lock(session):
                return not unless() and await self.deployments.scale_down(session)

    async def end(self, pod: PodView) -> None:
        with self._retried(pod.session), suppress(ApiConflict):
            await self.cluster.delete(PODS, pod.name, uid=pod.uid)

    async def refusal(self, session: str) -> Trouble | None:
        with self._retried(session):
            return await self.deployments.refusal(session)

    async def forget(self, session: str, *, deleted: bool) -> None:
        """Delete the volume of a session that ended, if its class said so when the volume was created."""
        policy = names.ON_DELETE_ANNOTATION if deleted else names.ON_EXPIRE_ANNOTATION
        with self._retried(session):
            async with self._lock(session):
                self.drop(session)
                with suppress(ApiNotFound):
                    metadata = (await self.cluster.get(CLAIMS, names.child_name(session)))["metadata"]
                    if metadata.get("annotations", {}).get(policy) == "Delete":
                        await self.cluster.delete(CLAIMS, metadata["name"], uid=metadata["uid"])

    @contextmanager
    def _retried(self, session: str) -> Iterator[None]:
        """Turn a refusal into Unavailable: the caller tries again until it is allowed. Log it once."""
        try:
            yield
        except ApiError as error:
            words = f"the Kubernetes API rejected a request for a session: {error}"
            self.refused.warn(session, words, "request.rejected")
            raise Unavailable(words) from error
        self.refused.over(session)

    def _lock(self, session: str) -> asyncio.Lock:
        return self.locks.setdefault(session, asyncio.Lock())
