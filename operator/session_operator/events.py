"""Events for kubectl describe: Woken, Slept, WakeFailed, PodDied, Expired of a Session, ClassInvalid of a SessionClass.

What is said again about the same object raises the count of its Event.  All writes share one rate, and while there are
too many the counts add up and new Events are dropped: Events are hints, and must not slow down the API server.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from session_manager.domain.errors import Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import EVENTS, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.resources import SessionView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator.conditions import of_kind
from session_operator.once import Once

log = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two writes
WAITING = 200  # Events that wait to be written; more are dropped
KNOWN = 2000  # Events whose count can be raised
MAX_MESSAGE = 1000  # characters; the API server accepts 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that an Event is about."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Happening:
    """``warns``: an operator of the cluster should look at it."""

    subject: Subject
    reason: str
    message: str
    warns: bool = False


def of_status(view: SessionView, before: Json, after: Json) -> Happening | None:
    """Return what a new status of a Session says has happened, or None."""
    subject = Subject(names.SESSION_KIND, view.uuid, view.uid)
    ready = of_kind(after, "Ready")
    if after["phase"] == "Awake" and after.get("podName") != before.get("podName"):
        return Happening(subject, "Woken", "A pod answers for the session.")
    if after["phase"] == before.get("phase"):
        return None
    if after["phase"] == "Sleeping" and before.get("phase") == "Awake":
        return Happening(subject, "Slept", "The pod was ended; the next message wakes the session.")
    if after["phase"] == "Failed":
        return Happening(subject, "WakeFailed", f"{ready['reason']}: {ready['message']}", warns=True)
    return None


def of_exit(view: SessionView, reason: str) -> Happening:
    """Return that the pod of a Session ended by itself."""
    subject = Subject(names.SESSION_KIND, view.uuid, view.uid)
    return Happening(subject, "PodDied", f"The pod ended by itself: {reason}.", warns=True)


def of_expiry(view: SessionView) -> Happening:
    subject = Subject(names.SESSION_KIND, view.uuid, view.uid)
    return Happening(subject, "Expired", "The session expired; its next message begins it anew.")


def of_refusal(spec: ClassSpec, refusal: Trouble) -> Happening:
    """Return that the API server refuses pods of a class."""
    subject = Subject(names.CLASS_KIND, spec.name, spec.uid)
    return Happening(subject, "ClassInvalid", f"{refusal.reason}: {refusal.remedy}", warns=True)


def event(happening: Happening, namespace: str, count: int, now: str) -> Json:
    """Return the Event to create."""
    subject = happening.subject
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{subject.name}.{secrets.token_hex(8)}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": subject.kind,
            "name": subject.name,
            "namespace": namespace,
            "uid": subject.uid,
        },
        "type": "Warning" if happening.warns else "Normal",
        "reason": happening.reason,
        "message": happening.message[:MAX_MESSAGE],
        "source": {"component": names.OPERATOR},
        "reportingComponent": names.OPERATOR,
        "reportingInstance": names.OPERATOR,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": count,
    }


@dataclass(slots=True, eq=False)
class Recorder:
    """``waiting``: how often each happening is still to be counted. ``known``: name and count of what was written.

    ``observe`` is called with the reason of each written Event, or with "" for a dropped one.
    """

    cluster: Cluster
    observe: Callable[[str], None] = lambda reason: None
    waiting: OrderedDict[Happening, int] = field(default_factory=OrderedDict)
    known: OrderedDict[Happening, tuple[str, int]] = field(default_factory=OrderedDict)
    something: asyncio.Event = field(default_factory=asyncio.Event)
    problems: Once = field(default_factory=lambda: Once(log))

    def record(self, happening: Happening) -> None:
        """Write this soon. Never wait, and never fail."""
        if happening not in self.waiting and len(self.waiting) >= WAITING:
            self.observe("")
            return
        self.waiting[happening] = self.waiting.get(happening, 0) + 1
        self.something.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.something.wait()
            self.something.clear()
            while self.waiting:
                happening, times = self.waiting.popitem(last=False)
                await self._write_or_drop(happening, times)
                await asyncio.sleep(PAUSE)

    async def _write_or_drop(self, happening: Happening, times: int) -> None:
        try:
            await self._write(happening, times)
        except (ApiError, Unavailable) as error:
            self.problems.warn("events", f"an Event could not be written: {error}", "event.dropped")
            self.observe("")
            return
        self.problems.over("events")
        self.observe(happening.reason)

    async def _write(self, happening: Happening, times: int) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name, count = self.known.pop(happening, ("", 0))
        count += times
        if name:
            patch: Json = {"count": count, "lastTimestamp": now}
            try:
                await self.cluster.merge_patch(EVENTS, name, patch, names.OPERATOR)
            except ApiNotFound:
                name = ""  # it has expired
        if not name:
            body = event(happening, self.cluster.namespace, count, now)
            name = body["metadata"]["name"]
            await self.cluster.create(EVENTS, body, names.OPERATOR)
        self.known[happening] = (name, count)
        if len(self.known) > KNOWN:
            self.known.popitem(last=False)
