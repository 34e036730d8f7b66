"""A cache of all objects of one kind in the namespace, kept up to date: list once, then watch.

Each object is parsed once, when it arrives.  Listeners see every change in order.  After a gap the objects are listed
again, and listeners see those that vanished meanwhile as deleted.  A watch that dies silently is noticed because its
bookmarks stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes.cluster import ApiError, ApiExpired, ApiNotFound, Cluster, Resource

log = logging.getLogger(__name__)

T = TypeVar("T")

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
BACKOFF = Backoff(0.1, 5.0)


@dataclass(slots=True, eq=False)
class Watch(Generic[T]):
    """``objects``: the parsed objects by name. ``parse`` keeps what is needed of one: there may be thousands.

    ``listed`` is set with the first list and stays set. ``synced`` is set while the watch works.
    ``failure``: why it has not worked since ``failing_since`` (seconds of the loop's clock), or "".
    ``selector``, ``fields``: selectors of labels and of fields.
    ``if_missing``: what to do if the cluster does not serve this kind.
    ``version``: the resource version to continue from, or "" to list again.
    """

    cluster: Cluster
    resource: Resource
    parse: Callable[[Json], T]
    selector: str = ""
    fields: str = ""
    if_missing: str = ""
    version: str = ""
    objects: dict[str, T] = field(default_factory=dict)
    listed: asyncio.Event = field(default_factory=asyncio.Event)
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""
    failing_since: float = 0.0
    listeners: list[Callable[[str, T], None]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def listen(self, listener: Callable[[str, T], None]) -> None:
        """Call ``listener`` for every change with (ADDED, MODIFIED or DELETED, object). Call this before ``start``."""
        self.listeners.append(listener)

    def start(self) -> None:
        self.task = asyncio.create_task(self._run(), name=f"watch {self.resource.plural}")

    async def close(self) -> None:
        if self.task is not None:
            await cancel(self.task)

    @property
    def healthy(self) -> bool:
        """Return True if the watch has listed everything and is running."""
        return self.synced.is_set() and self.task is not None and not self.task.done()

    def failed_for(self, seconds: float) -> bool:
        """Return True if the watch has failed for longer than this."""
        return self.failure != "" and asyncio.get_running_loop().time() - self.failing_since > seconds

    async def _run(self) -> None:
        pauses = BACKOFF.pauses()
        while True:
            try:
                if not self.version:
                    await self._list()
                    pauses = BACKOFF.pauses()
                await self._follow()
                continue
            except ApiExpired:
                self.version = ""
                continue
            except TimeoutError:
                log.warning("a watch fell silent", extra={"event": "watch.silent", "resource": self.resource.plural})
                continue
            except (Unavailable, ApiError) as error:
                missing = self.if_missing if isinstance(error, ApiNotFound) else ""
                self._failed(missing or str(error))
            except Exception as error:
                # A line that was cut off, or an event of an unknown shape. Without a watch the process would be blind.
                extra = {"event": "watch.failed", "resource": self.resource.plural}
                log.exception("a watch failed and is retried with a new list", extra=extra)
                self.version = ""
                self._failed(repr(error))
            await asyncio.sleep(next(pauses))

    def _works(self) -> None:
        self.synced.set()
        self.failure = ""

    def _failed(self, reason: str) -> None:
        """Log a reason once, until the watch works again."""
        self.synced.clear()
        if not self.failure:
            self.failing_since = asyncio.get_running_loop().time()
        if reason != self.failure:
            extra = {"event": "watch.failed", "resource": self.resource.plural, "reason": reason}
            log.warning("a watch failed and is retried: %s", reason, extra=extra)
        self.failure = reason

    async def _list(self) -> None:
        items, version = await self.cluster.list(self.resource, self.selector, self.fields)
        present = {item["metadata"]["name"] for item in items}
        for name in [name for name in self.objects if name not in present]:
            self._notify(DELETED, self.objects.pop(name))
        for item in items:
            self._on_event(ADDED, item)
        self.version = version
        self.listed.set()
        self._works()

    async def _follow(self) -> None:
        async for event in self.cluster.watch(self.resource, self.version, self.selector, self.fields):
            self._works()
            resource = event["object"]
            self.version = resource["metadata"]["resourceVersion"]
            if event["type"] in {ADDED, MODIFIED, DELETED}:
                self._on_event(event["type"], resource)

    def _on_event(self, kind: str, resource: Json) -> None:
        name = resource["metadata"]["name"]
        resource["metadata"].pop("managedFields", None)
        if kind == DELETED:
            self.objects.pop(name, None)
        try:
            parsed = self.parse(resource)
        except Exception:
            # One object that cannot be read must not end the watch over all others.
            log.exception("a watched object could not be read", extra={"event": "watch.unread", "object": name})
            return
        if kind != DELETED:
            self.objects[name] = parsed
        self._notify(kind, parsed)

    def _notify(self, kind: str, parsed: T) -> None:
        for listener in self.listeners:
            try:
                listener(kind, parsed)
            except Exception:
                log.exception("a listener of a watch failed", extra={"event": "watch.unread", "kind": kind})
