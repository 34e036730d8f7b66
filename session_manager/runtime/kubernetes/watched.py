"""What the watches of a front door have told of Sessions and SessionClasses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLASSES, SESSIONS, Cluster
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.kubernetes.watch import DELETED, Watch

Json = dict[str, Any]


def trim(resource: Json) -> Json:
    """What is kept of a Session: there are thousands."""
    metadata, spec = resource["metadata"], resource["spec"]
    kept = {key: metadata[key] for key in ("name", "uid", "resourceVersion", "deletionTimestamp") if key in metadata}
    kept["labels"] = {names.INSTALL_LABEL: metadata.get("labels", {}).get(names.INSTALL_LABEL)}
    return {"metadata": kept, "spec": {key: spec[key] for key in ("owner", "classRef", "mode") if key in spec}}


class WatchedSessions:
    """``objects``: the Sessions by name. ``classes`` is filled in by the watch."""

    def __init__(self, cluster: Cluster, classes: ClusterClasses) -> None:
        self._classes = classes
        self._sessions = Watch(cluster, SESSIONS, keep=trim)
        self._class_watch = Watch(cluster, CLASSES)
        self._class_watch.listen(self._on_class)
        self._sessions.on_listed(self._on_sessions_listed)
        self._class_watch.on_listed(self._on_classes_listed)
        self._listed = False

    def listen(self, listener: Callable[[str, Json], None]) -> None:
        """Tell of every change of a Session. Call before ``start``."""
        self._sessions.listen(listener)

    def start(self) -> None:
        self._class_watch.start()
        self._sessions.start()

    async def close(self) -> None:
        await self._sessions.close()
        await self._class_watch.close()

    @property
    def healthy(self) -> bool:
        return self._sessions.healthy

    @property
    def synced(self) -> bool:
        """What is not known does not exist."""
        return self._sessions.synced.is_set()

    @property
    def lacks(self) -> str | None:
        """What keeps requests from being served, in words."""
        if self._classes.listed and self._listed:
            return None
        return "the cluster has not told yet which Sessions and SessionClasses there are"

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def objects(self) -> dict[str, Json]:
        return self._sessions.objects

    def find(self, session: str) -> Json | None:
        """As the watch told last. Unavailable before the first list."""
        if self.lacks is not None:
            raise Unavailable(self.lacks)
        return self._sessions.objects.get(session)

    def mode(self, session: str) -> Mode:
        """Unavailable before the first list."""
        found = self.find(session)
        return Mode.AUTO if found is None else Mode(found["spec"].get("mode", Mode.AUTO))

    def class_name(self, session: str) -> str:
        """Empty where the watch has not told of the session."""
        found = self.objects.get(session)
        return "" if found is None else str(found["spec"]["classRef"]["name"])

    def always_on(self) -> list[tuple[str, SessionClass]]:
        """The sessions of that mode whose class is known."""
        found = []
        for name, resource in self.objects.items():
            spec = resource["spec"]
            if spec.get("mode") == Mode.ALWAYS_ON and "deletionTimestamp" not in resource["metadata"]:
                with suppress(InvalidInput, Unavailable):
                    found.append((name, self._classes.get(spec["classRef"]["name"])))
        return found

    # -- what is told --------------------------------------------------------------------------------------------------

    def _on_class(self, kind: str, resource: Json) -> None:
        if kind == DELETED:
            self._classes.drop(resource["metadata"]["name"])
        else:
            self._classes.put(resource)

    def _on_sessions_listed(self) -> None:
        self._listed = True

    def _on_classes_listed(self) -> None:
        self._classes.listed = True
