"""Whether KEDA is there, now and later, and what it leaves behind when it goes.

KEDA puts a finalizer on every ScaledObject.  Where it is gone, nobody takes that off again, and a deleted Session, or a
whole namespace, would wait for it for ever: so what has been leaving for long loses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import SCALED_OBJECTS, ApiConflict, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.watch import DELETED, Watch
from session_operator.children import Children
from session_operator.resources import Resources

log = logging.getLogger(__name__)

Json = dict[str, Any]

LOOK = 5.0  # seconds between looks
LEAVING = 20.0  # seconds in which KEDA, if it is there, has long taken its finalizer off


def _trim(scaled: Json) -> Json:
    kept = ("name", "uid", "resourceVersion", "deletionTimestamp", "finalizers")
    return {"metadata": {key: scaled["metadata"][key] for key in kept if key in scaled["metadata"]}}


class Keda:
    """``by_default``: classes that do not say are scaled by KEDA. ``reconcile`` has a session looked at."""

    def __init__(
        self,
        cluster: Cluster,
        resources: Resources,
        children: Children,
        reconcile: Callable[[str], None],
        *,
        by_default: bool,
    ) -> None:
        self._cluster = cluster
        self._resources = resources
        self._children = children
        self._reconcile = reconcile
        self._by_default = by_default
        self._watch: Watch | None = None
        self._told: tuple[bool, bool] | None = None
        self._leaving: dict[str, float] = {}

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            with suppress(Unavailable, ApiError):
                await self.look()
                await self.let_go(asyncio.get_running_loop().time())
            await asyncio.sleep(LOOK)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()
            self._watch = None

    @property
    def leaving(self) -> set[str]:
        """UIDs of ScaledObjects whose deletion has begun."""
        return set(self._leaving)

    # -- is it there? --------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Know whether KEDA's API is served, and act where that has changed."""
        served = await self._cluster.serves(SCALED_OBJECTS)
        changed = served != self._children.keda_served
        self._children.keda_served = served
        self._tell(served)
        if served and self._watch is None:
            self._watch = Watch(self._cluster, SCALED_OBJECTS, names.MANAGED_SELECTOR, _trim)
            self._watch.listen(self._on_scaled_object)
            self._watch.start()
        elif not served:
            await self.close()
        if changed:
            for view in self._resources.all():
                self._children.lost(view.uuid)
                self._reconcile(view.uuid)

    def _tell(self, served: bool) -> None:
        """One line when it matters, and one when it matters no more."""
        wanted = self._by_default or any(spec.scaler == "keda" for spec in self._resources.classes.all())
        if wanted and not served and self._told != (wanted, served):
            log.warning("KEDA is not installed here; sessions are scaled natively", extra={"event": "keda.missing"})
        elif served and self._told not in (None, (wanted, served)):
            log.info("KEDA is there", extra={"event": "keda.found"})
        self._told = wanted, served

    # -- what is watched -----------------------------------------------------------------------------------------------

    def _on_scaled_object(self, kind: str, scaled: Json) -> None:
        """Its loss is repaired; what it says is nobody's to change."""
        session = names.session_of_child(scaled["metadata"]["name"])
        if session is not None and kind == DELETED:
            self._children.lost(session)
            self._reconcile(session)

    async def let_go(self, now: float) -> None:
        """Take KEDA's finalizer off what has been leaving for too long at ``now``."""
        objects = {} if self._watch is None else self._watch.objects
        leaving = [each["metadata"] for each in objects.values() if "deletionTimestamp" in each["metadata"]]
        self._leaving = {each["uid"]: self._leaving.get(each["uid"], now) for each in leaving}
        for metadata in leaving:
            if now - self._leaving[metadata["uid"]] >= LEAVING:
                await self._take_off(metadata)

    async def _take_off(self, metadata: Json) -> None:
        left = [each for each in metadata.get("finalizers", ()) if each != names.KEDA_FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left}}
        with suppress(ApiConflict, ApiNotFound):
            await self._cluster.merge_patch(SCALED_OBJECTS, metadata["name"], patch, names.OPERATOR)
            extra = {"event": "keda.finalizer_removed", "object": metadata["name"]}
            log.warning("KEDA did not let go of a ScaledObject that is leaving", extra=extra)
