"""The Sessions and SessionClasses of the cluster, for the front door and the operator alike.

Each resource is parsed once, when the watch of its kind reports it, and everybody works with the parsed view.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from session_manager.domain.errors import InvalidInput, PodCannotStart, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session_class import SessionClass
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import CLASSES, SESSIONS, ApiError, ApiNotFound, Cluster
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses
from session_manager.runtime.kubernetes.watch import Watch

INSTALL_CRDS = (
    "the CRDs of Session Manager are not installed; install them with the chart (crds.install: true) "
    "or with kubectl apply --server-side -f k8s-manifests/base/crds.yaml"
)
# Why no pod is even requested.
SUSPENDED, CLASS_MISSING, CLASS_INVALID = "Suspended", "ClassMissing", "ClassInvalid"


@dataclass(frozen=True, slots=True)
class SessionView:
    """One Session resource. ``leaving``: its deletion has begun.

    ``install`` names the installation that it belongs to; it is empty until a front door adopts what a person made.
    """

    uuid: str
    uid: str
    version: str
    install: str
    owner: str
    class_name: str
    mode: Mode
    generation: int
    leaving: bool
    status: Json


def session_view(resource: Json) -> SessionView:
    """Parse a Session resource; the API server has checked its shape."""
    metadata, spec = resource["metadata"], resource["spec"]
    return SessionView(
        uuid=metadata["name"],
        uid=metadata.get("uid", ""),
        version=metadata.get("resourceVersion", ""),
        install=metadata.get("labels", {}).get(names.INSTALL_LABEL, ""),
        owner=spec.get("owner", ""),
        class_name=spec.get("classRef", {}).get("name", names.DEFAULT_CLASS),
        mode=Mode(spec.get("mode", Mode.AUTO)),
        generation=metadata.get("generation", 0),
        leaving="deletionTimestamp" in metadata,
        status=resource.get("status", {}),
    )


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A Session together with its class. ``suspended``: nothing may wake it, KEDA included."""

    uuid: str
    uid: str
    class_spec: ClassSpec
    suspended: bool = False
    owner: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return names.session_labels(self.uuid, self.class_spec.name, self.owner)


class Resources:
    """``sessions`` and ``classes`` are filled in by watches. ``with_status``: keep the status of each Session.

    ``ask_api``: ask the API for a Session that no event has reported yet.
    """

    def __init__(
        self, cluster: Cluster, classes: ClusterClasses, *, with_status: bool = False, ask_api: bool = True
    ) -> None:
        self._cluster = cluster
        self._ask_api = ask_api
        self.classes = classes
        drop: Json = {} if with_status else {"status": {}}
        self.sessions = Watch(
            cluster, SESSIONS, lambda resource: session_view({**resource, **drop}), if_missing=INSTALL_CRDS
        )
        self.class_watch = Watch(cluster, CLASSES, classes.parse, if_missing=INSTALL_CRDS)
        classes.specs, classes.listed = self.class_watch.objects, self.class_watch.listed

    def start(self) -> None:
        self.class_watch.start()
        self.sessions.start()

    async def close(self) -> None:
        await self.sessions.close()
        await self.class_watch.close()

    @property
    def lacks(self) -> str | None:
        """Return what is missing before requests can be served, or None if nothing is."""
        if self.classes.listed.is_set() and self.sessions.listed.is_set():
            return None
        return "the Sessions and SessionClasses of the cluster have not been listed yet"

    # -- lookups -------------------------------------------------------------------------------------------------------

    async def find(self, session: str) -> SessionView | None:
        """Return the Session, or None if there is none or its deletion has begun.

        Raises Unavailable.
        """
        found = self.sessions.objects.get(session)
        if self._ask_api and (found is None or found.leaving):
            try:
                found = session_view(await self._cluster.get(SESSIONS, session))
            except ApiNotFound:
                return None
            except ApiError as error:
                raise Unavailable(f"the Kubernetes API rejected the request: {error}") from error
        return None if found is None or found.leaving else found

    def learn(self, session: Json) -> None:
        """Take in the Session that a write returned, before the watch reports it."""
        view = session_view(session)
        if view.uuid in self.sessions.objects:
            self.sessions.objects[view.uuid] = view

    def mode(self, session: str) -> Mode:
        """Return the mode that the watch reported last. Raises Unavailable before the first list."""
        if self.lacks is not None:
            raise Unavailable(self.lacks)
        found = self.sessions.objects.get(session)
        return Mode.AUTO if found is None else found.mode

    def class_name(self, session: str) -> str:
        """Return the name of the session's class, or "" if no event has reported the session."""
        found = self.sessions.objects.get(session)
        return "" if found is None else found.class_name

    def user(self, session: str) -> str:
        """Return the owner that the Session names, or "" if no event has reported the session."""
        found = self.sessions.objects.get(session)
        return "" if found is None else found.owner

    def always_on(self) -> list[tuple[str, SessionClass]]:
        """Return the sessions whose mode is AlwaysOn and whose class is known."""
        found = []
        for view in self.sessions.objects.values():
            if view.mode is Mode.ALWAYS_ON and not view.leaving:
                with suppress(InvalidInput, Unavailable):
                    found.append((view.uuid, self.classes.get(view.class_name)))
        return found

    def spec(self, view: SessionView) -> SessionSpec:
        """Return the Session with its class. Raises InvalidInput if the class is missing."""
        class_spec = self.classes.spec(view.class_name)
        return SessionSpec(view.uuid, view.uid, class_spec, view.mode is Mode.SUSPENDED, view.owner)

    async def wakeable(self, session: str) -> SessionSpec | None:
        """Return the spec to start, or None if there is no such Session yet.

        Raises PodCannotStart if the session is suspended, or if its class is missing or refused.
        """
        view = await self.find(session)
        if view is None:
            return None
        if view.mode is Mode.SUSPENDED:
            raise PodCannotStart(SUSPENDED, "the mode of the Session is Suspended; set it to Auto or AlwaysOn")
        try:
            spec = self.spec(view)
        except InvalidInput as error:
            raise PodCannotStart(CLASS_MISSING, f"{error.detail}; create it, or delete the session") from None
        if spec.class_spec.refusal:
            raise PodCannotStart(CLASS_INVALID, spec.class_spec.refusal)
        return spec
