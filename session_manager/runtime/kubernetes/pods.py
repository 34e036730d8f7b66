"""The pods of sessions and warm pools: a parsed view of each, their watch, and waiting for one to answer."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from session_manager.aio.tasks import cancel, is_set_within, wait_for_either
from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import Probe
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import PODS, Cluster
from session_manager.runtime.kubernetes.steps import Step, step_of_pod
from session_manager.runtime.kubernetes.trouble import Trouble, how_it_ended, last_words, own_container, trouble_of_pod
from session_manager.runtime.kubernetes.watch import DELETED, Watch
from session_manager.runtime.probe import until_ready
from session_manager.runtime.protocol import PodAddress

RECHECK = 1.0  # seconds after which the state is checked even if no event has reported a change


@dataclass(frozen=True, slots=True)
class PodView:
    """``warm``: the class whose pool the pod waits in; ``session`` is empty then. ``path``: of its probe.

    ``port``, ``ended``: of our container; ``ended`` is how it ended, or "". ``claimed``: it came from a pool, so its
    Session controls it instead of a ReplicaSet. ``gate``: the index of our scheduling gate, or None. ``step``: of its
    start.
    """

    name: str
    uid: str
    version: str
    created: str
    session: str
    warm: str
    ip: str
    port: int
    path: str
    spec_hash: str
    ready: bool
    leaving: bool
    claimed: bool
    ended: str
    last_words: str
    gate: int | None
    step: Step
    trouble: Trouble | None

    @property
    def alive(self) -> bool:
        return not self.leaving and not self.ended

    @property
    def address(self) -> PodAddress:
        return PodAddress(self.ip, self.port, self.uid)

    @property
    def group(self) -> str:
        """Return the session or the pool that the pod belongs to."""
        return self.session or names.warm_name(self.warm)


def view_of(pod: Json) -> PodView:
    metadata, status = pod["metadata"], pod.get("status", {})
    labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
    owners = metadata.get("ownerReferences", ())
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        version=metadata["resourceVersion"],
        created=metadata["creationTimestamp"],
        session=labels.get(names.SESSION_LABEL, ""),
        warm=labels.get(names.WARM_LABEL, ""),
        ip=status.get("podIP", ""),
        port=_port(pod["spec"]),
        path=annotations.get(names.PROBE_ANNOTATION, "/"),
        spec_hash=annotations.get(names.SPEC_HASH_ANNOTATION, ""),
        ready=_condition(status, "Ready"),
        leaving="deletionTimestamp" in metadata,
        claimed=any(owner["kind"] == names.SESSION_KIND and owner.get("controller") for owner in owners),
        ended=_ended(status),
        last_words=last_words(_terminated(own_container(status) or {}) or {}),
        gate=_gate(pod["spec"]),
        step=step_of_pod(pod),
        trouble=trouble_of_pod(pod),
    )


def _port(spec: Json) -> int:
    """Return the port of our container, or 0. A mesh may have put other containers before it."""
    for container in spec["containers"]:
        if container["name"] == names.CONTAINER:
            return next((int(port["containerPort"]) for port in container.get("ports", ())), 0)
    return 0


def _condition(status: Json, kind: str) -> bool:
    return any(each["type"] == kind and each["status"] == "True" for each in status.get("conditions", ()))


def _ended(status: Json) -> str:
    """Return how our container ended, or "". A restarted container has lost its state, so it has ended as well."""
    own = own_container(status) or {}
    ended = _terminated(own)
    if ended:
        return how_it_ended(ended)
    if own.get("restartCount"):
        return "restarted"
    if status.get("phase") in {"Failed", "Succeeded"}:
        return str(status.get("reason") or status["phase"])
    return ""


def _terminated(own: Json) -> Json | None:
    ended: Json | None = own.get("state", {}).get("terminated") or own.get("lastState", {}).get("terminated")
    return ended


def _gate(spec: Json) -> int | None:
    gates = [gate["name"] for gate in spec.get("schedulingGates", ())]
    return gates.index(names.REFILL_GATE) if names.REFILL_GATE in gates else None


class Pods:
    """All pods of sessions and warm pools, from one watch."""

    def __init__(self, cluster: Cluster) -> None:
        self.watch = Watch(cluster, PODS, view_of, names.MANAGED_SELECTOR)
        self.watch.listen(self._on_event)
        self.by_uid: dict[str, PodView] = {}
        self._groups: dict[str, set[str]] = defaultdict(set)
        self._waiting: dict[str, asyncio.Event] = {}
        self._listeners: list[Callable[[PodView, bool], None]] = []

    def listen(self, listener: Callable[[PodView, bool], None]) -> None:
        """Call ``listener`` for every change with (pod, True if it still exists)."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Return when all present pods are known."""
        self.watch.start()
        await self.watch.listed.wait()

    async def close(self) -> None:
        await self.watch.close()

    def get(self, uid: str) -> PodView | None:
        return self.by_uid.get(uid)

    def of_session(self, session: str) -> list[PodView]:
        """Return the session's pods, oldest first."""
        return self._sorted(session)

    def of_pool(self, class_name: str) -> list[PodView]:
        return self._sorted(names.warm_name(class_name))

    def _sorted(self, group: str) -> list[PodView]:
        pods = [self.by_uid[uid] for uid in self._groups.get(group, ())]
        return sorted(pods, key=lambda pod: (pod.created, pod.name))

    async def change(self, session: str) -> None:
        """Wait until a pod of the session changes, for RECHECK seconds at most."""
        await is_set_within(self._waiting.setdefault(session, asyncio.Event()), RECHECK)

    async def answers(self, pod: PodView, probe: Probe, on_look: Callable[[PodView], None] = lambda _: None) -> bool:
        """Wait until the pod answers its probe; False if it goes away first. The caller owns the time limit.

        ``on_look`` is called with the pod as it is now and then. Raises PodCannotStart if its container ends.
        """
        probing = asyncio.create_task(until_ready(pod.ip, pod.port, probe), name=f"probe {pod.name}")
        try:
            while not probing.done():
                await wait_for_either(probing, self.change(pod.session))
                now = self.get(pod.uid)
                if now is None or now.leaving:
                    return False
                on_look(now)
                if now.trouble is not None and now.trouble.final:
                    raise PodCannotStart(now.trouble.reason, now.trouble.remedy)
            probing.result()
            return True
        finally:
            await cancel(probing)

    def learn(self, pod: Json) -> PodView:
        """Take in what a write returned, before the watch reports it."""
        view = view_of(pod)
        self._put(view)
        return view

    def _on_event(self, kind: str, view: PodView) -> None:
        if kind == DELETED:
            self._drop(view.uid)
        else:
            self._put(view)
        for listener in self._listeners:
            listener(view, kind != DELETED)
        waiting = self._waiting.pop(view.session, None)
        if waiting is not None:
            waiting.set()

    def _put(self, view: PodView) -> None:
        self._drop(view.uid)
        self.by_uid[view.uid] = view
        self._groups[view.group].add(view.uid)

    def _drop(self, uid: str) -> None:
        before = self.by_uid.pop(uid, None)
        if before is not None:
            self._groups[before.group].discard(uid)
            if not self._groups[before.group]:
                del self._groups[before.group]
