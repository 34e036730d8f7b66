"""Follows KEDA as it is installed, chosen, no longer chosen and removed, and cleans up what it leaves behind.

KEDA puts a finalizer on every ScaledObject.  Once KEDA has been removed, nothing removes the finalizer, and deleting a
Session or a whole namespace would hang.  So ScaledObjects that have been leaving for too long lose it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter

from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import SCALED_OBJECTS, ApiConflict, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import Resources
from session_manager.runtime.kubernetes.watch import DELETED, Watch
from session_operator.children import Children

log = logging.getLogger(__name__)

LOOK = 5.0  # seconds between looks
LEAVING = 20.0  # seconds after which KEDA, if it runs, has long removed its finalizer


@dataclass(slots=True, eq=False)
class Keda:
    """``reconcile`` queues a session.

    ``leaving``: when the ScaledObjects, by UID, were first seen to be leaving.
    """

    cluster: Cluster
    resources: Resources
    children: Children
    reconcile: Callable[[str], None]
    watch: Watch[Json] | None = None
    missed: bool = False
    leaving: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
                await self.remove_unwanted()
                await self.let_go(asyncio.get_running_loop().time())
            except (Unavailable, ApiError) as error:
                log.info("looking for KEDA was put off", extra={"event": "keda.put_off", "reason": str(error)})
            await asyncio.sleep(LOOK)

    async def close(self) -> None:
        if self.watch is not None:
            await self.watch.close()
            self.watch = None

    # -- is it installed? ----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Find out whether KEDA's API is served, and act if that has changed."""
        served = await self.cluster.serves(SCALED_OBJECTS)
        changed = served != self.children.keda_served
        self.children.keda_served = served
        self._log(served)
        if served and self.watch is None:
            self.watch = Watch(self.cluster, SCALED_OBJECTS, itemgetter("metadata"), names.MANAGED_SELECTOR)
            self.watch.listen(self._on_scaled_object)
            self.watch.start()
        elif not served:
            await self.close()
        if changed:
            for session in self.resources.sessions.objects:
                self.children.lost(session)
                self.reconcile(session)

    def _log(self, served: bool) -> None:
        """Log once when a class needs KEDA and it is missing, and once when it is installed after all."""
        specs = self.resources.classes.specs.values()
        wanted = "keda" in {self.children.scaler, *(spec.scaler for spec in specs)}
        if wanted and not served and not self.missed:
            log.warning("KEDA is not installed; sessions are scaled natively", extra={"event": "keda.missing"})
        elif served and self.missed:
            log.info("KEDA was installed", extra={"event": "keda.found"})
        self.missed = wanted and not served

    # -- ScaledObjects -------------------------------------------------------------------------------------------------

    def _on_scaled_object(self, kind: str, metadata: Json) -> None:
        """Repair a deleted ScaledObject at once. Its content is written anew when the session's children are."""
        session = names.session_of_child(metadata["name"])
        if session is not None and kind == DELETED:
            self.children.lost(session)
            self.reconcile(session)

    async def remove_unwanted(self) -> None:
        """Delete the ScaledObjects of sessions that are scaled natively by now. KEDA then deletes their HPAs."""
        objects = {} if self.watch is None else self.watch.objects
        for name, metadata in list(objects.items()):
            if "deletionTimestamp" not in metadata and self._is_unwanted(names.session_of_child(name)):
                with suppress(ApiConflict):
                    await self.cluster.delete(SCALED_OBJECTS, name, uid=metadata["uid"])
                    extra = {"event": "keda.removed", "object": name}
                    log.info("deleted a ScaledObject: its session is scaled natively", extra=extra)

    def _is_unwanted(self, session: str | None) -> bool:
        view = None if session is None else self.resources.sessions.objects.get(session)
        if view is None:
            return False  # it is deleted with its Session
        with suppress(InvalidInput, Unavailable):
            return not self.children.wants_keda(self.resources.spec(view))
        return False

    async def let_go(self, now: float) -> None:
        """Remove KEDA's finalizer from what has been leaving for too long at ``now``."""
        objects = {} if self.watch is None else self.watch.objects
        leaving = [metadata for metadata in objects.values() if "deletionTimestamp" in metadata]
        self.leaving = {metadata["uid"]: self.leaving.get(metadata["uid"], now) for metadata in leaving}
        for metadata in leaving:
            if now - self.leaving[metadata["uid"]] >= LEAVING:
                await self._remove_finalizer(metadata)

    async def _remove_finalizer(self, metadata: Json) -> None:
        left = [each for each in metadata.get("finalizers", ()) if each != names.KEDA_FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left}}
        with suppress(ApiConflict, ApiNotFound):
            await self.cluster.merge_patch(SCALED_OBJECTS, metadata["name"], patch, names.OPERATOR)
            extra = {"event": "keda.finalizer_removed", "object": metadata["name"]}
            log.warning("removed KEDA's finalizer from a ScaledObject that is being deleted", extra=extra)
