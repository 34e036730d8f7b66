"""What the cluster holds of one kind, kept up to date: list once, then watch.

Everything that happened is told to one listener, in order; after a gap the objects are listed again, and those that
vanished meanwhile are told as deleted.  A watch that dies without a word is noticed by its silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes.cluster import ApiError, ApiExpired, Cluster, Resource

log = logging.getLogger(__name__)

Json = dict[str, Any]
Listener = Callable[[str, Json], None]

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
BACKOFF = Backoff(0.1, 5.0)


def _as_it_is(thing: Json) -> Json:
    return thing


class Watch:
    """``objects`` by name, each as ``keep`` leaves it, so that many take little memory."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        selector: str = "",
        keep: Callable[[Json], Json] = _as_it_is,
    ) -> None:
        self._cluster = cluster
        self._resource = resource
        self._selector = selector
        self._keep = keep
        self._listeners: list[Listener] = []
        self._on_listed: list[Callable[[], None]] = []
        self._version = ""
        self._task: asyncio.Task[None] | None = None
        self.objects: dict[str, Json] = {}
        self.synced = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Tell of every change as (ADDED, MODIFIED or DELETED, object). Call before ``start``."""
        self._listeners.append(listener)

    def on_listed(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever all that there was has been told. Call before ``start``."""
        self._on_listed.append(listener)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"watch {self._resource.plural}")

    async def close(self) -> None:
        if self._task is not None:
            await cancel(self._task)

    @property
    def healthy(self) -> bool:
        """It has listed everything and runs."""
        return self.synced.is_set() and self._task is not None and not self._task.done()

    async def _run(self) -> None:
        pauses = BACKOFF.pauses()
        while True:
            try:
                if not self._version:
                    await self._list()
                    pauses = BACKOFF.pauses()
                await self._follow()
                continue
            except ApiExpired:
                self._version = ""
                continue
            except TimeoutError:
                log.warning("a watch fell silent", extra={"event": "watch.silent", "resource": self._resource.plural})
                continue
            except (Unavailable, ApiError) as error:
                extra = {"event": "watch.failed", "resource": self._resource.plural, "reason": str(error)}
                log.warning("a watch failed; trying again", extra=extra)
            self.synced.clear()
            await asyncio.sleep(next(pauses))

    async def _list(self) -> None:
        items, version = await self._cluster.list(self._resource, self._selector)
        present = {item["metadata"]["name"]: item for item in items}
        for name in [name for name in self.objects if name not in present]:
            self._tell(DELETED, self.objects[name])
        for item in items:
            self._tell(ADDED, item)
        self._version = version
        self.synced.set()
        for listener in self._on_listed:
            listener()

    async def _follow(self) -> None:
        async for event in self._cluster.watch(self._resource, self._version, self._selector):
            self.synced.set()
            thing = event["object"]
            self._version = thing["metadata"]["resourceVersion"]
            if event["type"] in {ADDED, MODIFIED, DELETED}:
                self._tell(event["type"], thing)

    def _tell(self, kind: str, thing: Json) -> None:
        thing["metadata"].pop("managedFields", None)
        kept = self._keep(thing)
        name = thing["metadata"]["name"]
        if kind == DELETED:
            self.objects.pop(name, None)
        else:
            self.objects[name] = kept
        for listener in self._listeners:
            try:
                listener(kind, kept)
            except Exception:
                # One object that a listener cannot read must not end the watch over all others.
                log.exception("a watched object could not be read", extra={"event": "watch.unread", "object": name})
