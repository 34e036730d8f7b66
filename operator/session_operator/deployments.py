"""The Deployments of sessions: created, corrected, scaled up for a wake and down for a sleep.

``replicas`` belongs to the field manager ``session-scaler``, all else to ``session-operator``.  Each wake writes a new
random value into an annotation together with ``replicas: 1``.  A sleep tests for the value that it means to end, and
that the Deployment has not been scaled since.  So a late sleep fails instead of ending the next turn's pod.

Edits by other people are corrected.  A session that is awake keeps the template of its last wake, so its Deployment is
compared with the class only if the class has not changed since.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, ApiConflict, ApiInvalid, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.trouble import Trouble, trouble_of_deployment
from session_operator import manifests
from session_operator.fields import differs, editors, hand_over_patch, is_handed_over

log = logging.getLogger(__name__)

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
class Deployments:
    """``live``: the Deployments by session. Calls for one session must not be concurrent."""

    cluster: Cluster
    live: dict[str, Live] = field(default_factory=dict)

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

    async def ensure(self, session: SessionSpec, *, repair: bool) -> Live:
        """Create the Deployment if it is missing. ``repair``: also correct what others have changed."""
        live = self.live.get(session.uuid)
        if live is None or live.owner != session.uid:
            return await self._create(session)
        if live.paused or repair:
            return await self._correct(session)
        return live

    async def _create(self, session: SessionSpec) -> Live:
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

    # -- corrections ---------------------------------------------------------------------------------------------------

    async def _correct(self, session: SessionSpec) -> Live:
        try:
            found = await self.cluster.get(DEPLOYMENTS, names.child_name(session.uuid))
        except ApiNotFound:
            return await self._create(session)
        live = self._remember(session.uuid, found)
        desired = manifests.deployment(session)
        follows_class = live.spec_hash == desired["metadata"]["annotations"][names.SPEC_HASH_ANNOTATION]
        if follows_class or live.replicas == 0:
            others = editors(found["metadata"]["managedFields"])
            if others or differs(desired, found):
                self._log_correction(session.uuid, others)
                live = await self._apply(session, found)
        if live.replicas > 1:
            self._log_correction(session.uuid, [f"replicas: {live.replicas}"])
            live = await self._scale_to_one(session.uuid, live)
        return live

    @staticmethod
    def _log_correction(session: str, changes: list[str]) -> None:
        extra = {"event": "deployment.corrected", "session": session, "changes": changes}
        log.warning("another writer changed a Deployment; it was changed back", extra=extra)

    async def _scale_to_one(self, session: str, live: Live) -> Live:
        patch: list[Json] = [
            {"op": "test", "path": "/spec/replicas", "value": live.replicas},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]
        with suppress(ApiInvalid):  # it was scaled again, and its event will come
            found = await self.cluster.json_patch(DEPLOYMENTS, names.child_name(session), patch, names.SCALER)
            return self._remember(session, found)
        return live

    async def _apply(self, session: SessionSpec, found: Json | None = None) -> Live:
        """Apply the manifest, and remove what others have added. ``found``: the Deployment, if it has been read."""
        name = names.child_name(session.uuid)
        for _ in range(HAND_OVER_TRIES):
            found = found or await self.cluster.get(DEPLOYMENTS, name)
            entries = found["metadata"]["managedFields"]
            if is_handed_over(entries) and not editors(entries):
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

    # -- wake and sleep ------------------------------------------------------------------------------------------------

    async def scale_up(self, session: SessionSpec) -> None:
        """Request one pod of the present template."""
        try:
            await self._scale_up(session)
        except ApiNotFound:
            self.live.pop(session.uuid, None)
            await self._scale_up(session)

    async def _scale_up(self, session: SessionSpec) -> None:
        live = await self.ensure(session, repair=False)
        wanted = manifests.spec_hash(manifests.session_template(session))
        if live.replicas == 0 and live.spec_hash != wanted:
            await self._apply(session)
        patch: list[Json] = [
            {"op": "add", "path": WAKE_PATH, "value": secrets.token_hex(8)},
            {"op": "replace", "path": "/spec/replicas", "value": 1},
        ]
        found = await self.cluster.json_patch(DEPLOYMENTS, names.child_name(session.uuid), patch, names.SCALER)
        self._remember(session.uuid, found)

    async def scale_down(self, session: str) -> bool:
        """Request no pod. Return False if the session was woken since we looked."""
        live = self.live.get(session)
        if live is not None and live.replicas == 0:
            return True
        name = names.child_name(session)
        try:
            patch = sleep_patch(live)
            self._remember(session, await self.cluster.json_patch(DEPLOYMENTS, name, patch, names.SCALER))
        except ApiNotFound:
            self.live.pop(session, None)
        except ApiInvalid:
            self._remember(session, await self.cluster.get(DEPLOYMENTS, name))
            return False
        return True

    async def refusal(self, session: str) -> Trouble | None:
        """Return what the Deployment's status says about pods that were not created, or None."""
        try:
            return trouble_of_deployment(await self.cluster.get(DEPLOYMENTS, names.child_name(session)))
        except ApiNotFound:
            return None
