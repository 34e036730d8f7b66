"""Writes the children of Sessions, wakes a Session and puts it to sleep: the operator's Workloads.

``replicas`` belongs to the field manager ``session-scaler``, all else to ``session-operator``.  Each wake writes a new
random value into an annotation together with ``replicas: 1``.  A sleep tests for the value that it means to end, and
that the Deployment has not been scaled since.  So a late sleep fails instead of ending the next turn's pod.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLAIMS,
    DEPLOYMENTS,
    PODS,
    SCALED_OBJECTS,
    SERVICES,
    ApiConflict,
    ApiInvalid,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.trouble import Trouble, trouble_of_deployment
from session_operator import manifests
from session_operator.fields import differs, hand_over_patch, is_handed_over
from session_operator.manifests import RedisTrigger
from session_operator.warm import WarmPods

HAND_OVER_TRIES = 10  # the status of a Deployment may change at any moment
WAKE_PATH = "/metadata/annotations/" + names.WAKE_ANNOTATION.replace("/", "~1")


@dataclass(frozen=True, slots=True)
class Live:
    """The part of a Deployment that is remembered. ``owner``: UID of the Session that it belongs to."""

    uid: str
    owner: str
    generation: int
    replicas: int
    paused: bool
    spec_hash: str
    wake: str


def live_of(deployment: Json) -> Live:
    metadata, spec = deployment["metadata"], deployment["spec"]
    annotations = metadata.get("annotations", {})
    return Live(
        uid=metadata["uid"],
        owner=next((owner["uid"] for owner in metadata.get("ownerReferences", ())), ""),
        generation=metadata["generation"],
        replicas=spec["replicas"],
        paused=spec.get("paused", False),
        spec_hash=annotations.get(names.SPEC_HASH_ANNOTATION, ""),
        wake=annotations.get(names.WAKE_ANNOTATION, ""),
    )


def sleep_patch(live: Live | None) -> list[Json]:
    """Return a patch that ends the pod. It fails as a whole if the session was woken since ``live`` was read."""
    tests: list[Json] = []
    if live is not None:
        tests.append({"op": "test", "path": "/metadata/generation", "value": live.generation})
        if live.wake:
            tests.append({"op": "test", "path": WAKE_PATH, "value": live.wake})
    return [*tests, {"op": "replace", "path": "/spec/replicas", "value": 0}]


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
    live: dict[str, Live] = field(default_factory=dict)
    complete: dict[str, SessionSpec] = field(default_factory=dict)
    locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    # -- what the watches report ---------------------------------------------------------------------------------------

    def seen(self, session: str, deployment: Json | None) -> bool:
        """Remember a Deployment's state. Return True if another writer changed its spec or deleted it."""
        before = self.live.get(session)
        if deployment is None:
            self.live.pop(session, None)
            return before is not None
        live = live_of(deployment)
        if before is not None and before.uid == live.uid and live.generation <= before.generation:
            return False
        self.live[session] = live
        return True

    def drop(self, session: str) -> None:
        """Forget the children of a Session that is gone; they go with it."""
        self.live.pop(session, None)
        self.complete.pop(session, None)

    def lacks_keda(self, session: SessionSpec) -> bool:
        return self._wants_keda(session) and not self.keda_served

    def _wants_keda(self, session: SessionSpec) -> bool:
        return (session.class_spec.scaler or self.scaler) == "keda"

    def lost(self, session: str) -> None:
        """Another child of the session was changed or deleted: the next ``ensure`` writes all of them again."""
        self.complete.pop(session, None)

    def scaled_up(self) -> list[str]:
        """Return the sessions whose Deployments request a pod."""
        return [session for session, live in self.live.items() if live.replicas > 0]

    # -- children ------------------------------------------------------------------------------------------------------

    async def ensure(self, session: SessionSpec, *, repair: bool = False) -> None:
        """Create the children that are missing. ``repair``: also reset a Deployment that drifted, if it has no pod."""
        async with self._lock(session.uuid):
            await self._ensure_deployment(session, repair=repair)
            if not self._is_complete(session):
                await self._ensure_others(session)

    def _is_complete(self, session: SessionSpec) -> bool:
        before = self.complete.get(session.uuid)
        return before is not None and (before.uid, before.suspended) == (session.uid, session.suspended)

    async def _ensure_deployment(self, session: SessionSpec, *, repair: bool) -> Live:
        live = self.live.get(session.uuid)
        if live is None or live.owner != session.uid:
            return await self._create_deployment(session)
        if live.paused or (repair and live.replicas == 0):
            return await self._repair_deployment(session, live)
        return live

    async def _create_deployment(self, session: SessionSpec) -> Live:
        manifest = manifests.new_deployment(session)
        try:
            found = await self.cluster.create(DEPLOYMENTS, manifest, names.SCALER)
        except ApiConflict:
            found = await self.cluster.get(DEPLOYMENTS, names.child_name(session.uuid))
            live = live_of(found)
            if live.owner != session.uid:
                # It belongs to a former Session of this name, and the garbage collector has not deleted it yet.
                await self.cluster.delete(DEPLOYMENTS, names.child_name(session.uuid), uid=live.uid)
                found = await self.cluster.create(DEPLOYMENTS, manifest, names.SCALER)
        return self._remember(session.uuid, found)

    async def _repair_deployment(self, session: SessionSpec, live: Live) -> Live:
        try:
            found = await self.cluster.get(DEPLOYMENTS, names.child_name(session.uuid))
        except ApiNotFound:
            return await self._create_deployment(session)
        live = self._remember(session.uuid, found)
        if differs(manifests.deployment(session), found):
            live = await self._apply_deployment(session, found)
        return live

    async def _apply_deployment(self, session: SessionSpec, found: Json | None = None) -> Live:
        """``found``: the present Deployment, if it has been read already."""
        name = names.child_name(session.uuid)
        for _ in range(HAND_OVER_TRIES):
            found = found or await self.cluster.get(DEPLOYMENTS, name)
            if is_handed_over(found["metadata"]["managedFields"]):
                break
            with suppress(ApiInvalid):
                found = await self.cluster.json_patch(DEPLOYMENTS, name, hand_over_patch(found), names.OPERATOR)
                break
            found = None
        else:
            raise Unavailable("the Deployment changes too often to be applied")
        applied = await self.cluster.apply(DEPLOYMENTS, manifests.deployment(session), names.OPERATOR)
        return self._remember(session.uuid, applied)

    def _remember(self, session: str, deployment: Json) -> Live:
        live = self.live[session] = live_of(deployment)
        return live

    async def _ensure_others(self, session: SessionSpec) -> None:
        await self._ensure_service(manifests.service(session))
        storage = session.class_spec.storage
        if storage is not None:
            await self._ensure_claim(manifests.volume_claim(session, storage))
        if self._wants_keda(session) and self.keda_served:
            manifest = manifests.scaled_object(session, self.trigger)
            await self.cluster.apply(SCALED_OBJECTS, manifest, names.OPERATOR)
        self.complete[session.uuid] = session

    async def _ensure_service(self, service: Json) -> None:
        """Create the Service. It rarely exists, and creating costs the API server half as much as applying."""
        try:
            await self.cluster.create(SERVICES, service, names.OPERATOR)
        except ApiConflict:
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
            try:
                await self._wake(session)
            except ApiNotFound:
                self.live.pop(session.uuid, None)
                await self._wake(session)

    async def _wake(self, session: SessionSpec) -> None:
        live = await self._ensure_deployment(session, repair=False)
        if session.class_spec.storage is not None and not self._is_complete(session):
            await self._ensure_others(session)
        wanted = manifests.spec_hash(manifests.session_template(session))
        if live.replicas == 0 and live.spec_hash != wanted:
            await self._apply_deployment(session)
        patch: list[Json] = [
            {"op": "add", "path": WAKE_PATH, "value": secrets.token_hex(8)},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]
        found = await self.cluster.json_patch(DEPLOYMENTS, names.child_name(session.uuid), patch, names.SCALER)
        self._remember(session.uuid, found)

    async def sleep(self, session: str, unless: Callable[[], bool] = lambda: False) -> bool:
        """Request no replica. Return False if the session was woken since we looked, or if ``unless`` returns True."""
        async with self._lock(session):
            if unless():
                return False
            live = self.live.get(session)
            if live is not None and live.replicas == 0:
                return True
            name = names.child_name(session)
            patch = sleep_patch(live)
            try:
                self._remember(session, await self.cluster.json_patch(DEPLOYMENTS, name, patch, names.SCALER))
            except ApiNotFound:
                self.live.pop(session, None)
            except ApiInvalid:
                self._remember(session, await self.cluster.get(DEPLOYMENTS, name))
                return False
            return True

    async def end(self, pod: PodView) -> None:
        with suppress(ApiConflict):
            await self.cluster.delete(PODS, pod.name, uid=pod.uid)

    async def refusal(self, session: str) -> Trouble | None:
        """Return what the Deployment's status says about pods that were not created, or None."""
        try:
            return trouble_of_deployment(await self.cluster.get(DEPLOYMENTS, names.child_name(session)))
        except ApiNotFound:
            return None

    async def forget(self, session: str, *, deleted: bool) -> None:
        """Delete the volume of a session that ended, if its class said so when the volume was created."""
        policy = names.ON_DELETE_ANNOTATION if deleted else names.ON_EXPIRE_ANNOTATION
        async with self._lock(session):
            self.drop(session)
            with suppress(ApiNotFound):
                metadata = (await self.cluster.get(CLAIMS, names.child_name(session)))["metadata"]
                if metadata.get("annotations", {}).get(policy) == "Delete":
                    await self.cluster.delete(CLAIMS, metadata["name"], uid=metadata["uid"])

    def _lock(self, session: str) -> asyncio.Lock:
        return self.locks.setdefault(session, asyncio.Lock())
