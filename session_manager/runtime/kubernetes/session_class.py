"""A SessionClass as the cluster keeps it: what the domain knows of it, and what only a pod's manifest needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from session_manager.domain.errors import InvalidInput, Unavailable
from session_manager.domain.session_class import PodProtocol, Probe, Redelivery, SessionClass
from session_manager.runtime.kubernetes import names

Json = dict[str, Any]

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
    """What a class may add to its pods."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Json, ...] = ()
    affinity: Json | None = None
    priority_class: str | None = None


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """``base`` is what the rest of the package works with. ``env``, ``env_from`` and ``resources`` as in a container.

    ``scaler`` None: the installation's own. ``uid`` is empty for the class that settings define.
    """

    base: SessionClass
    env: tuple[Json, ...] = ()
    env_from: tuple[Json, ...] = ()
    resources: Json | None = None
    scaler: str | None = None
    storage: Storage | None = None
    runtime_class: str | None = None
    warm: int = 0
    template: PodTemplate = PodTemplate()
    image_pull_secrets: tuple[str, ...] = ()
    uid: str = ""

    @property
    def name(self) -> str:
        return self.base.name


def parse_class(resource: Json, idle_timeout: float, ttl: float) -> ClassSpec:
    """A SessionClass resource; the API server has checked its shape. The two times (seconds) are for what it omits."""
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

    ``listed``: the cluster has told of all of them once. Before that nothing can be said of one that is not known.
    ``pod_env``: variables of every pod whose class does not say otherwise.
    """

    def __init__(
        self,
        idle_timeout: float,
        ttl: float,
        default_image: str | None,
        default_port: int,
        pod_env: Mapping[str, str] | None = None,
    ) -> None:
        self._times = (idle_timeout, ttl)
        self._pod_env = dict(pod_env or {})
        self._specs: dict[str, ClassSpec] = {}
        self.listed = False
        self._built_in = _built_in(idle_timeout, ttl, default_image, default_port)
        if self._built_in is not None:
            self._built_in = self._with_env(self._built_in)

    def _with_env(self, spec: ClassSpec) -> ClassSpec:
        said = {variable["name"] for variable in spec.env}
        added = [{"name": name, "value": value} for name, value in self._pod_env.items() if name not in said]
        return replace(spec, env=(*added, *spec.env))

    def put(self, resource: Json) -> ClassSpec:
        spec = self._with_env(parse_class(resource, *self._times))
        self._specs[spec.name] = spec
        return spec

    def drop(self, name: str) -> None:
        self._specs.pop(name, None)

    def all(self) -> list[ClassSpec]:
        return list(self._specs.values())

    def spec(self, name: str) -> ClassSpec:
        """InvalidInput, naming the known ones, when there is none of this name. Unavailable while they are unknown."""
        found = self._specs.get(name)
        if found is None and not self.listed:
            raise Unavailable("the cluster has not told yet which SessionClasses there are")
        if found is None and name == names.DEFAULT_CLASS:
            found = self._built_in
        if found is None:
            known = set(self._specs) | ({names.DEFAULT_CLASS} if self._built_in else set())
            there = f"there are {', '.join(sorted(known))}" if known else "the cluster has no SessionClass"
            raise InvalidInput(f"there is no class {name!r}; {there}", "class")
        return found

    def get(self, name: str) -> SessionClass:
        return self.spec(name).base


def _built_in(idle_timeout: float, ttl: float, image: str | None, port: int) -> ClassSpec | None:
    if image is None:
        return None
    return ClassSpec(SessionClass(names.DEFAULT_CLASS, image=image, port=port, idle_timeout=idle_timeout, ttl=ttl))
