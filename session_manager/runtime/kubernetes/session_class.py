"""SessionClasses of the cluster: the part that the domain works with, and the part that only pod manifests need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import AppState, PodProtocol, Probe, Redelivery, SessionClass, unknown_class
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.settings import Settings

_DEFAULTS = SessionClass("")
_PROBE = Probe()


@dataclass(frozen=True, slots=True)
class Storage:
    """A volume that outlives sleep. ``on_expire`` and ``on_delete``: Keep or Delete."""

    size: str
    storage_class: str | None = None
    on_expire: str = "Keep"
    on_delete: str = "Delete"


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """Labels, placement and priority that a class adds to its pods."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Json, ...] = ()
    affinity: Json | None = None
    priority_class: str | None = None


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """A parsed SessionClass. ``base`` is the part that every runtime works with.

    ``env``, ``env_from`` and ``resources`` as in a container.
    ``scaler`` None: the installation's default. ``uid`` is empty for the built-in class.
    ``refusal``: why the installation does not run pods of this class; empty if it does.
    ``user`` of the pods; None: the cluster chooses one.
    Classes that differ in nothing but their ``generation`` are equal.
    """

    base: SessionClass
    env: tuple[Json, ...] = field(default=(), repr=False)
    env_from: tuple[Json, ...] = ()
    resources: Json | None = None
    scaler: str | None = None
    storage: Storage | None = None
    runtime_class: str | None = None
    warm: int = 0
    template: PodTemplate = PodTemplate()
    image_pull_secrets: tuple[str, ...] = ()
    uid: str = ""
    refusal: str = ""
    user: int | None = names.USER
    generation: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        return self.base.name


def parse_class(resource: Json, idle_timeout: float, ttl: float) -> ClassSpec:
    """Parse a SessionClass; the API server has checked its shape. The two times, in seconds, are its defaults."""
    spec = resource["spec"]
    return ClassSpec(
        base=_parse_base(resource["metadata"]["name"], spec, idle_timeout, ttl),
        env=tuple(spec.get("env", ())),
        env_from=tuple(spec.get("envFrom", ())),
        resources=spec.get("resources"),
        scaler=spec.get("scaler"),
        storage=_parse_storage(spec.get("storage")),
        runtime_class=spec.get("runtimeClassName"),
        warm=spec.get("warm", 0),
        template=_parse_template(spec.get("template", {})),
        image_pull_secrets=tuple(secret["name"] for secret in spec.get("imagePullSecrets", ())),
        uid=resource["metadata"].get("uid", ""),
        generation=resource["metadata"].get("generation", 0),
    )


def _parse_base(name: str, spec: Json, idle_timeout: float, ttl: float) -> SessionClass:
    probe = spec.get("probe", {})
    return SessionClass(
        name=name,
        command=tuple(spec.get("command", ())),
        image=spec["image"],
        port=spec.get("port", _DEFAULTS.port),
        protocol=PodProtocol(spec.get("protocol", _DEFAULTS.protocol)),
        probe=Probe(
            path=probe.get("path", _PROBE.path),
            startup_timeout=probe.get("startupTimeoutSeconds", _PROBE.startup_timeout),
            interval=probe.get("intervalSeconds", _PROBE.interval),
            timeout=probe.get("timeoutSeconds", _PROBE.timeout),
        ),
        idle_timeout=spec.get("idleTimeoutSeconds", idle_timeout),
        ttl=spec.get("ttlSeconds", ttl),
        turn_timeout=spec.get("turnTimeoutSeconds", _DEFAULTS.turn_timeout),
        grace_period=spec.get("gracePeriodSeconds", _DEFAULTS.grace_period),
        redelivery=Redelivery(spec.get("redelivery", _DEFAULTS.redelivery)),
        app_state=AppState(spec.get("appState", _DEFAULTS.app_state)),
    )


def _parse_storage(spec: Json | None) -> Storage | None:
    if spec is None:
        return None
    return Storage(
        size=spec["size"],
        storage_class=spec.get("storageClassName"),
        on_expire=spec.get("onExpire", "Keep"),
        on_delete=spec.get("onDelete", "Delete"),
    )


def _parse_template(spec: Json) -> PodTemplate:
    return PodTemplate(
        labels=spec.get("labels", {}),
        annotations=spec.get("annotations", {}),
        node_selector=spec.get("nodeSelector", {}),
        tolerations=tuple(spec.get("tolerations", ())),
        affinity=spec.get("affinity"),
        priority_class=spec.get("priorityClassName"),
    )


class ClusterClasses:
    """The SessionClasses of the cluster. ``default_image``: a class ``default`` for a cluster that has none.

    ``specs``: the classes of the cluster by name, without the built-in one.
    ``listed`` is set once all of them are known; before that no class can be called missing.
    ``pod_env``: variables of every pod whose class does not set them.
    ``refusal`` returns why the installation does not run pods of a class, or "".
    ``user`` of all pods; None: the cluster chooses one.
    """

    def __init__(
        self,
        idle_timeout: float,
        ttl: float,
        default_image: str | None,
        default_port: int,
        pod_env: Mapping[str, str] | None = None,
        refusal: Callable[[ClassSpec], str] = lambda _: "",
        user: int | None = names.USER,
    ) -> None:
        self._times = (idle_timeout, ttl)
        self._user = user
        self._refusal = refusal
        self._pod_env = dict(pod_env or {})
        self.specs: dict[str, ClassSpec] = {}
        self._built_in: dict[str, ClassSpec] = {}
        self.listed = asyncio.Event()
        if default_image is not None:
            base = SessionClass(
                names.DEFAULT_CLASS, image=default_image, port=default_port, idle_timeout=idle_timeout, ttl=ttl
            )
            self._built_in[base.name] = self._completed(ClassSpec(base))

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        pod_env: Mapping[str, str] | None = None,
        refusal: Callable[[ClassSpec], str] = lambda _: "",
    ) -> Self:
        image, port = settings.kubernetes.image, settings.kubernetes.port
        user = None if settings.kubernetes.users_assigned else names.USER
        return cls(settings.sessions.idle_timeout, settings.sessions.ttl, image, port, pod_env, refusal, user)

    def parse(self, resource: Json) -> ClassSpec:
        """Parse a SessionClass with the defaults of this installation."""
        spec = parse_class(resource, *self._times)
        return replace(self._completed(spec), refusal=self._refusal(spec))

    def _completed(self, spec: ClassSpec) -> ClassSpec:
        own = {variable["name"] for variable in spec.env}
        added = [{"name": name, "value": value} for name, value in self._pod_env.items() if name not in own]
        return replace(spec, env=(*added, *spec.env), user=self._user)

    def spec(self, name: str) -> ClassSpec:
        """Return the class of this name.

        Raises InvalidInput, naming the known classes, if there is none, and Unavailable before they are known.
        """
        found = self.specs.get(name)
        if found is None and not self.listed.is_set():
            raise Unavailable("the SessionClasses of the cluster have not been listed yet")
        found = found or self._built_in.get(name)
        if found is None:
            raise unknown_class(name, self.specs | self._built_in)
        return found

    def get(self, name: str) -> SessionClass:
        return self.spec(name).base
