"""The Sessions and SessionClasses that the operator knows, fed by their events."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from session_manager.domain.errors import InvalidInput, PodCannotStart
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import SESSIONS, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.kubernetes.workloads import CLASS_MISSING, SUSPENDED
from session_operator.manifests import SessionSpec

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SessionView:
    """One Session resource. ``leaving``: its deletion has begun."""

    uuid: str
    uid: str
    class_name: str
    mode: Mode
    generation: int
    leaving: bool
    status: Json


def session_view(resource: Json) -> SessionView:
    metadata, spec = resource["metadata"], resource["spec"]
    return SessionView(
        uuid=metadata["name"],
        uid=metadata["uid"],
        class_name=spec.get("classRef", {}).get("name", names.DEFAULT_CLASS),
        mode=Mode(spec.get("mode", Mode.AUTO)),
        generation=metadata.get("generation", 0),
        leaving="deletionTimestamp" in metadata,
        status=resource.get("status", {}),
    )


class Resources:
    def __init__(self, cluster: Cluster, classes: ClusterClasses) -> None:
        self._cluster = cluster
        self.classes = classes
        self._sessions: dict[str, SessionView] = {}

    def put(self, resource: Json) -> SessionView:
        view = session_view(resource)
        self._sessions[view.uuid] = view
        return view

    def drop(self, uuid: str, uid: str) -> None:
        """A Session of the same name may have come meanwhile: that one stays."""
        found = self._sessions.get(uuid)
        if found is not None and found.uid == uid:
            del self._sessions[uuid]

    def all(self) -> list[SessionView]:
        return list(self._sessions.values())

    def spec(self, view: SessionView) -> SessionSpec:
        """InvalidInput when its class is missing."""
        return SessionSpec(view.uuid, view.uid, self.classes.spec(view.class_name), view.mode is Mode.SUSPENDED)

    async def find(self, uuid: str) -> SessionView | None:
        """The Session, from the API where no event has told of it yet."""
        found = self._sessions.get(uuid)
        if found is None or found.leaving:
            try:
                found = self.put(await self._cluster.get(SESSIONS, uuid))
            except ApiNotFound:
                self._sessions.pop(uuid, None)
                return None
        return None if found.leaving else found

    def always_on(self) -> list[tuple[str, SessionClass]]:
        """The sessions of that mode whose class is there."""
        found = []
        for view in self._sessions.values():
            if view.mode is Mode.ALWAYS_ON and not view.leaving:
                with suppress(InvalidInput):
                    found.append((view.uuid, self.spec(view).class_spec.base))
        return found

    def class_name(self, session: str) -> str:
        """Empty where no event has told of the session."""
        found = self._sessions.get(session)
        return "" if found is None else found.class_name

    async def wakeable(self, uuid: str) -> SessionSpec | None:
        """What to start; None when there is no such Session yet. PodCannotStart when it must not or cannot run."""
        view = await self.find(uuid)
        if view is None:
            return None
        if view.mode is Mode.SUSPENDED:
            raise PodCannotStart(SUSPENDED, "the mode of the Session is Suspended; set it to Auto or AlwaysOn")
        try:
            return self.spec(view)
        except InvalidInput as error:
            raise PodCannotStart(CLASS_MISSING, f"{error.detail}; create it, or delete the session") from None
