"""Writes the children of a Session, and the two patches that wake it and put it to sleep.

``replicas`` belongs to the field manager ``session-scaler``, all else to ``session-operator``.  Each wake writes a new
random value into an annotation together with ``replicas: 1``, and a sleep tests the value that it means to end, and
that nobody else has scaled since: so a sleep that comes late fails instead of ending the next turn's pod.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLAIMS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    SERVICES,
    ApiConflict,
    ApiInvalid,
    ApiNotFound,
    Cluster,
)
from session_operator import manifests
from session_operator.manifests import RedisTrigger, SessionSpec
from session_operator.ownership import hand_over_patch, is_handed_over

Json = dict[str, Any]

HAND_OVER_TRIES = 10  # its status changes at any moment
WAKE_PATH = "/metadata/annotations/" + names.WAKE_ANNOTATION.replace("/", "~1")


@dataclass(frozen=True, slots=True)
class Live:
    """What is remembered of a Deployment. ``owner``: UID of the Session that it belongs to."""

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


def differs(desired: object, live: object) -> bool:
    """Whether something of ``desired`` is missing or another in ``live``; what the API server added is none."""
    if isinstance(desired, dict):
        return not isinstance(live, dict) or any(differs(value, live.get(key)) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(live, list) or len(live) != len(desired):
            return True
        return any(differs(one, other) for one, other in zip(desired, live, strict=True))
    # The API server leaves out what is false, and writes quantities in its own way.
    return str(desired) != str(live) and not (desired is False and live is None)


def sleep_patch(live: Live | None) -> list[Json]:
    """Fails as a whole when somebody has woken the session since it was ``live``."""
    tests: list[Json] = []
    if live is not None:
        tests.append({"op": "test", "path": "/metadata/generation", "value": live.generation})
        if live.wake:
            tests.append({"op": "test", "path": WAKE_PATH, "value": live.wake})
    return [*tests, {"op": "replace", "path": "/spec/replicas", "value": 0}]


class Children:
    """``scaler`` (keda or native) is for classes that do not say. ``keda_served``: the cluster has its API."""

    def __init__(self, cluster: Cluster, scaler: str, trigger: RedisTrigger) -> None:
        self._cluster = cluster
        self._scaler = scaler
        self._trigger = trigger
        self.keda_served = False
        self._live: dict[str, Live] = {}
        self._complete: dict[str, SessionSpec] = {}  # the Session as it was when its other children were written
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- what the watch tells ------------------------------------------------------------------------------------------

    def seen(self, session: str, deployment: Json | None) -> bool:
        """Remember a Deployment's state; True when somebody else has written its spec, or removed it."""
        before = self._live.get(session)
        if deployment is None:
            self._live.pop(session, None)
            return before is not None
        live = live_of(deployment)
        if before is not None and before.uid == live.uid and live.generation <= before.generation:
            return False
        self._live[session] = live
        return True

    def drop(self, session: str) -> None:
        """The Session is gone, and its children go with it."""
        self._live.pop(session, None)
        self._complete.pop(session, None)

    def known(self, session: str) -> bool:
        """It has a Deployment."""
        return session in self._live

    def lacks_keda(self, session: SessionSpec) -> bool:
        return self._wants_keda(session) and not self.keda_served

    def _wants_keda(self, session: SessionSpec) -> bool:
        return (session.class_spec.scaler or self._scaler) == "keda"

    def lost(self, session: str) -> None:
        """Another child of the session was changed or removed: look at all of them again."""
        self._complete.pop(session, None)

    def standing(self) -> list[str]:
        """The sessions whose Deployments want a pod."""
        return [session for session, live in self._live.items() if live.replicas > 0]

    # -- children ------------------------------------------------------------------------------------------------------

    async def ensure(self, session: SessionSpec, *, repair: bool = False) -> None:
        """All children exist. ``repair``: and the Deployment is as wanted, unless a pod of it may be awake."""
        async with self._lock(session.uuid):
            await self._ensure_deployment(session, repair=repair)
            if not self._is_complete(session):
                await self._ensure_others(session)

    def _is_complete(self, session: SessionSpec) -> bool:
        before = self._complete.get(session.uuid)
        return before is not None and (before.uid, before.suspended) == (session.uid, session.suspended)

    async def _ensure_deployment(self, session: SessionSpec, *, repair: bool) -> Live:
        live = self._live.get(session.uuid)
        if live is None or live.owner != session.uid:
            return await self._create_deployment(session)
        if live.paused or (repair and live.replicas == 0):
            return await self._repair_deployment(session, live)
        return live

    async def _create_deployment(self, session: SessionSpec) -> Live:
        manifest = manifests.new_deployment(session)
        try:
            found = await self._cluster.create(DEPLOYMENTS, manifest, names.SCALER)
        except ApiConflict:
            found = await self._cluster.get(DEPLOYMENTS, names.child_name(session.uuid))
            live = live_of(found)
            if live.owner != session.uid:
                # It belongs to a Session of this name that is gone: the garbage collector may not have come by yet.
                await self._cluster.delete(DEPLOYMENTS, names.child_name(session.uuid), uid=live.uid)
                found = await self._cluster.create(DEPLOYMENTS, manifest, names.SCALER)
        return self._remember(session.uuid, found)

    async def _repair_deployment(self, session: SessionSpec, live: Live) -> Live:
        try:
            found = await self._cluster.get(DEPLOYMENTS, names.child_name(session.uuid))
        except ApiNotFound:
            return await self._create_deployment(session)
        live = self._remember(session.uuid, found)
        if differs(manifests.deployment(session), found):
            live = await self._apply_deployment(session, found)
        return live

    async def _apply_deployment(self, session: SessionSpec, found: Json | None = None) -> Live:
        """``found``: the Deployment as it is, where somebody has asked for it already."""
        name = names.child_name(session.uuid)
        for _ in range(HAND_OVER_TRIES):
            found = found or await self._cluster.get(DEPLOYMENTS, name)
            if is_handed_over(found["metadata"]["managedFields"]):
                break
            with suppress(ApiInvalid):
                found = await self._cluster.json_patch(DEPLOYMENTS, name, hand_over_patch(found), names.OPERATOR)
                break
            found = None
        else:
            raise Unavailable("the Deployment changes all the time")
        applied = await self._cluster.apply(DEPLOYMENTS, manifests.deployment(session), names.OPERATOR)
        return self._remember(session.uuid, applied)

    def _remember(self, session: str, deployment: Json) -> Live:
        live = self._live[session] = live_of(deployment)
        return live

    async def _ensure_others(self, session: SessionSpec) -> None:
        await self._ensure_service(manifests.service(session))
        storage = session.class_spec.storage
        if storage is not None:
            await self._ensure_claim(manifests.volume_claim(session, storage))
        if self._wants_keda(session) and self.keda_served:
            manifest = manifests.scaled_object(session, self._trigger)
            await self._cluster.apply(SCALED_OBJECTS, manifest, names.OPERATOR)
        self._complete[session.uuid] = session

    async def _ensure_service(self, service: Json) -> None:
        """Nearly always there is none yet, and to make one costs the API server half of what applying it does."""
        try:
            await self._cluster.create(SERVICES, service, names.OPERATOR)
        except ApiConflict:
            await self._cluster.apply(SERVICES, service, names.OPERATOR)

    async def _ensure_claim(self, claim: Json) -> None:
        """Made once and never changed: a claim is nearly immutable."""
        try:
            await self._cluster.create(CLAIMS, claim, names.OPERATOR)
        except ApiConflict:
            found = await self._cluster.get(CLAIMS, claim["metadata"]["name"])
            if "deletionTimestamp" in found["metadata"]:
                raise Unavailable("the volume that the session had before is on its way out") from None

    # -- wake and sleep ------------------------------------------------------------------------------------------------

    async def wake(self, session: SessionSpec) -> None:
        """One replica, of the template that is wanted now."""
        async with self._lock(session.uuid):
            try:
                await self._wake(session)
            except ApiNotFound:
                self._live.pop(session.uuid, None)
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
        found = await self._cluster.json_patch(DEPLOYMENTS, names.child_name(session.uuid), patch, names.SCALER)
        self._remember(session.uuid, found)

    async def sleep(self, session: str, unless: Callable[[], bool] = lambda: False) -> bool:
        """No replicas, if nobody has woken it since we looked; False when somebody has, or ``unless`` holds."""
        async with self._lock(session):
            if unless():
                return False
            live = self._live.get(session)
            if live is not None and live.replicas == 0:
                return True
            name = names.child_name(session)
            patch = sleep_patch(live)
            try:
                self._remember(session, await self._cluster.json_patch(DEPLOYMENTS, name, patch, names.SCALER))
            except ApiNotFound:
                self._live.pop(session, None)
            except ApiInvalid:
                self._remember(session, await self._cluster.get(DEPLOYMENTS, name))
                return False
            return True

    async def deployment(self, session: str) -> Json | None:
        """The Deployment as it is now, for what its controllers say about it."""
        try:
            return await self._cluster.get(DEPLOYMENTS, names.child_name(session))
        except ApiNotFound:
            return None

    async def forget(self, session: str, *, deleted: bool) -> None:
        """The session ended. Its volume goes if its class said so when the volume was made."""
        async with self._lock(session):
            await self._forget(session, deleted=deleted)

    async def _forget(self, session: str, *, deleted: bool) -> None:
        self.drop(session)
        policy = names.ON_DELETE_ANNOTATION if deleted else names.ON_EXPIRE_ANNOTATION
        try:
            claim = await self._cluster.get(CLAIMS, names.child_name(session))
        except ApiNotFound:
            return
        metadata = claim["metadata"]
        if metadata.get("annotations", {}).get(policy) == "Delete":
            await self._cluster.delete(CLAIMS, metadata["name"], uid=metadata["uid"])

    def _lock(self, session: str) -> asyncio.Lock:
        return self._locks.setdefault(session, asyncio.Lock())
